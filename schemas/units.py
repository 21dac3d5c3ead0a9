"""The plan of a run: one row a unit, in the order of their positions."""

import pyarrow as pa

from schemas.described import described, required

NAME = pa.dictionary(pa.int32(), pa.string())
"""Few values, each for many units."""

PLAN = pa.schema(
    [
        required("id", pa.string(), "position and digest of what determines the output"),
        required("position", pa.int64(), "in the plan, from 0"),
        required("round", pa.int64(), "0, or the number of the retry round"),
        required("path", NAME, "input object, relative to the input's root"),
        required("fingerprint", NAME, "of that object: changes with its bytes"),
        required("row_start", pa.int64(), "first row within the object"),
        required("row_stop", pa.int64(), "row after the last"),
        described("rows", pa.list_(pa.int64()), "a retry's row numbers within the object; null: all"),
    ]
)

"""The plan of a run: one row a unit, in the order of their positions."""

import pyarrow as pa

NAME = pa.dictionary(pa.int32(), pa.string())
"""Few values, each for many units."""

PLAN = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("round", pa.int64(), nullable=False),  # 0, or the number of the retry round
        pa.field("path", NAME, nullable=False),  # input object, relative to the input's root
        pa.field("fingerprint", NAME, nullable=False),  # of that object
        pa.field("row_start", pa.int64(), nullable=False),
        pa.field("row_stop", pa.int64(), nullable=False),
        pa.field("rows", pa.list_(pa.int64())),  # a retry's row numbers within the object; null: all of them
    ]
)

"""Dead letters: the input rows that could not be processed, and why."""

import pyarrow as pa

from schemas.described import required

FAILED = pa.schema(
    [
        required("row_id", pa.string(), "id of the input row"),
        required("stage", pa.string(), "what was being done"),
        required("error_type", pa.string(), "name of the error's type"),
        required("message", pa.string(), "what was wrong; the same in every run"),
        required("path", pa.string(), "input object, relative to the input's root"),
        required("row", pa.int64(), "row number within that object"),
    ]
)

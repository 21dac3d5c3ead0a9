"""Dead letters: the input rows that could not be processed, and why."""

import pyarrow as pa

FAILED = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("error_type", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),  # input object, relative to the input's root
        pa.field("row", pa.int64(), nullable=False),  # row number within that object
    ]
)

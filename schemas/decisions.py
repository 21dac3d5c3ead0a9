"""What a selection decided: one row for each row of the input, dead letters of scoring among them."""

import pyarrow as pa

DECISIONS = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("uid", pa.string()),  # null for dead letters
        pa.field("image_id", pa.string()),
        pa.field("source_path", pa.string(), nullable=False),
        pa.field("source_row", pa.int64(), nullable=False),
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("rule", pa.string()),  # the first that dropped it; "STAGE: ErrorType" for dead letters
        pa.field("value", pa.string()),  # what the rule looked at
        pa.field("threshold", pa.string()),  # what it demanded
        pa.field("duplicate_of", pa.string()),  # row_id of the image that stays in its place
        pa.field("duplicate_kind", pa.string()),
        pa.field("distance", pa.float32()),
    ]
)

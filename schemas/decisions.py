"""What a selection decided: one row for each row of the input, dead letters of scoring among them."""

import pyarrow as pa

from schemas.described import described, required

DECISIONS = pa.schema(
    [
        required("row_id", pa.string(), "id of the row: object and row number in the input"),
        described("uid", pa.string(), "128 bits in hexadecimal; null for dead letters"),
        described("image_id", pa.string(), "SHA-256 of the encoded bytes; null for dead letters"),
        required("source_path", pa.string(), "input object, relative to the input's root"),
        required("source_row", pa.int64(), "row or sample number within that object"),
        required("kept", pa.bool_(), "whether the image stays"),
        described("rule", pa.string(), "that dropped it first; of dead letters stage and error type"),
        described("value", pa.string(), "what the rule looked at"),
        described("threshold", pa.string(), "what it demanded"),
        described("duplicate_of", pa.string(), "row_id of the image that stays in its place"),
        described("duplicate_kind", pa.string(), "exact, near or semantic"),
        described("distance", pa.float32(), "to that image: 0; bits that differ; 1 - cosine"),
    ]
)

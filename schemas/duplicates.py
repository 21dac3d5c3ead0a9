"""Pairs of duplicates. Of a group of equals each is paired with the group's first, not with all others."""

import pyarrow as pa

PAIRS = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),  # "exact", "near" or "semantic"
        pa.field("a", pa.string(), nullable=False),  # row_id
        pa.field("b", pa.string(), nullable=False),  # row_id; where `against` is set, there
        pa.field("against", pa.string()),  # the other dataset's URI; null within the dataset
        pa.field("distance", pa.float32(), nullable=False),  # 0; bits that differ; 1 - cosine
    ]
)

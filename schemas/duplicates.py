"""Pairs of duplicates. Of a group of equals each is paired with the group's first, not with all others."""

import pyarrow as pa

from schemas.described import described, required

PAIRS = pa.schema(
    [
        required("kind", pa.string(), "exact, near or semantic"),
        required("a", pa.string(), "row_id of one image"),
        required("b", pa.string(), "row_id of the other; where `against` is set, there"),
        described("against", pa.string(), "URI of the other dataset; null within the dataset"),
        required("distance", pa.float32(), "0 if exact; bits that differ; 1 - cosine"),
    ]
)

"""Rows on their way from the workers that crop to those that encode."""

import pyarrow as pa

CROP = pa.struct(
    [
        pa.field("pixels", pa.large_binary()),  # RGB, in reading order
        pa.field("top", pa.int32()),
        pa.field("left", pa.int32()),
    ]
)
CROPPED = pa.schema(
    [
        pa.field("row_id", pa.string()),
        pa.field("image_id", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("captions", pa.list_(pa.string())),
        pa.field("original_width", pa.int32()),
        pa.field("original_height", pa.int32()),
        pa.field("score", pa.float32()),  # the micro-condition
        pa.field("height", pa.int32()),  # pixels of the crops
        pa.field("width", pa.int32()),
        pa.field("crops", pa.list_(CROP)),
    ]
)
"""One row an image."""

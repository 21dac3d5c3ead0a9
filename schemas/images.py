"""Images on their way through curation: what a source reads, and what scoring says of each image."""

from collections.abc import Iterable

import pyarrow as pa

SOURCE_ROWS = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),  # "object:row number", unique in the input
        pa.field("source_path", pa.string(), nullable=False),  # input object, relative to the input's root
        pa.field("source_row", pa.int64(), nullable=False),  # row or sample number within it
        pa.field("key", pa.string(), nullable=False),  # the sample's name in the source
        pa.field("uid", pa.string(), nullable=False),  # 128 bits in hexadecimal: the source's, or of row_id
        pa.field("caption", pa.string()),
        pa.field("image_path", pa.string()),  # file, archive member or URL that the image is from
        pa.field("encoded", pa.large_binary()),  # the image's bytes; null where there is a fault
        pa.field("fault_stage", pa.string()),  # "read" or "fetch"; null where there is none
        pa.field("fault_type", pa.string()),
        pa.field("fault_message", pa.string()),  # the same in every run
    ]
)
"""What a source gives for each image; columns of the source that are not known follow."""

IMAGE_FACTS = pa.schema(
    [
        *(SOURCE_ROWS.field(name) for name in ("row_id", "source_path", "source_row", "key", "uid")),
        pa.field("image_id", pa.string(), nullable=False),  # SHA-256 of the encoded bytes, in hexadecimal
        SOURCE_ROWS.field("caption"),
        SOURCE_ROWS.field("image_path"),
        pa.field("format", pa.string(), nullable=False),  # "jpeg", "png", …
        pa.field("mode", pa.string(), nullable=False),  # of the stored pixels, in Pillow's terms
        pa.field("width", pa.int32(), nullable=False),  # pixels, upright
        pa.field("height", pa.int32(), nullable=False),
        pa.field("aspect", pa.float32(), nullable=False),  # width / height
        pa.field("min_side", pa.int32(), nullable=False),  # pixels of the shorter side
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("bytes_per_pixel", pa.float32(), nullable=False),
        pa.field("num_frames", pa.int32(), nullable=False),  # more than 1: animated, the first frame counts
        pa.field("has_alpha", pa.bool_(), nullable=False),
    ]
)
"""What decoding tells of each image; the scorers' columns and the source's unknown ones follow."""

EXPORT_NAMES = ("original_key", "original_width", "original_height", "crop_left", "crop_top")
"""Columns that a training set has besides: its `key`, `width` and `height` are of what was written."""

SOURCE_PREFIX = "source_"


def passed_through(fields: Iterable[pa.Field], taken: Iterable[str]) -> dict[str, pa.Field]:
    """The source's unknown columns by their name there; one whose name is taken is called `source_NAME`."""
    names, renamed = set(taken), {}
    for field in fields:
        name = field.name
        while name in names:
            name = f"{SOURCE_PREFIX}{name}"
        names.add(name)
        renamed[field.name] = pa.field(name, field.type)
    return renamed

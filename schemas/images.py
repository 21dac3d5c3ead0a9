"""Images on their way through curation: what a source reads, and what scoring says of each image."""

from collections.abc import Iterable

import pyarrow as pa

from schemas.described import described, required
from schemas.prompts import IMAGE

SOURCE_ROWS = pa.schema(
    [
        required("row_id", pa.string(), "object and row number, unique in the input"),
        required("source_path", pa.string(), "input object, relative to the input's root"),
        required("source_row", pa.int64(), "row or sample number within that object"),
        required("key", pa.string(), "the sample's name in the source"),
        required("uid", pa.string(), "128 bits in hexadecimal: the source's own, or of row_id"),
        described("caption", pa.string(), "text of the image; null where it has none"),
        described("image_path", pa.string(), "file, archive member or URL that the image is from"),
        described("encoded", pa.large_binary(), "the image's bytes; null where there is a fault"),
        described("fault_stage", pa.string(), "read or fetch; null where there is no fault"),
        described("fault_type", pa.string(), "name of the error's type"),
        described("fault_message", pa.string(), "what was wrong; the same in every run"),
    ]
)
"""What a source gives for each image; columns of the source that are not known follow."""

IMAGE_FACTS = pa.schema(
    [
        *(SOURCE_ROWS.field(name) for name in ("row_id", "source_path", "source_row", "key", "uid")),
        required("image_id", pa.string(), "SHA-256 of the source's encoded bytes, in hexadecimal"),
        SOURCE_ROWS.field("caption"),
        SOURCE_ROWS.field("image_path"),
        required("format", pa.string(), "of the source's file: jpeg, png, …"),
        required("mode", pa.string(), "of the stored pixels, in Pillow's terms"),
        required("width", pa.int32(), "pixels, of the upright image"),
        required("height", pa.int32(), "pixels, of the upright image"),
        required("aspect", pa.float32(), "width / height"),
        required("min_side", pa.int32(), "pixels of the shorter side"),
        required("size_bytes", pa.int64(), "of the source's file"),
        required("bytes_per_pixel", pa.float32(), "of the source's file"),
        required("num_frames", pa.int32(), "more than 1: animated, the first counts"),
        required("has_alpha", pa.bool_(), "whether it had transparency"),
    ]
)
"""What decoding tells of each image; the scorers' columns and the source's unknown ones follow."""

EXPORTED = pa.schema(
    [
        required("original_key", pa.string(), "the sample's name in the source"),
        required("original_width", pa.int32(), "pixels of the source's image, upright"),
        required("original_height", pa.int32(), "pixels of the source's image, upright"),
        described("key", pa.string(), "shard and number within it: the sample's name"),
        described("width", pa.int32(), "pixels of the image as it was written"),
        described("height", pa.int32(), "pixels of the image as it was written"),
        described("crop_left", pa.int32(), "pixels that were cut off the resized image"),
        described("crop_top", pa.int32(), "pixels that were cut off the resized image"),
        described("image", IMAGE, "encoded bytes and name"),
    ]
)
"""Columns of a training set that scores do not have, or that are of something else there."""
EXPORT_NAMES = ("original_key", "original_width", "original_height", "crop_left", "crop_top")
"""Those of them that a source's own columns would clash with."""

SOURCE_PREFIX = "source_"


def passed_through(fields: Iterable[pa.Field], taken: Iterable[str]) -> dict[str, pa.Field]:
    """The source's unknown columns by their name there; one whose name is taken is called `source_NAME`."""
    names, renamed = set(taken), {}
    for field in fields:
        name = field.name
        while name in names:
            name = f"{SOURCE_PREFIX}{name}"
        names.add(name)
        renamed[field.name] = described(name, field.type, "of the source, as it was there")
    return renamed

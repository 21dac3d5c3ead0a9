"""A token store: VQ codes of image crops with captions and micro-conditions, one row a crop.

Shards are `data/UNIT.HxW.parquet`, and `data/UNIT.HxW.validation.parquet` for images that are held out.
"""

from __future__ import annotations

import re

import pyarrow as pa

from schemas.described import described, required

MICRO_CONDITIONS = ("original_width", "original_height", "crop_top", "crop_left", "score")
"""In the order in which the released model takes them."""
_SHARD = re.compile(r"data/[^/.]+\.(\d+)x(\d+)(\.validation)?\.parquet")

Grid = tuple[int, int]
"""Rows and columns of tokens."""


def tokens_schema(grid: Grid) -> pa.Schema:
    """Of the shards with grids of that size."""
    return pa.schema(
        [
            required("token_id", pa.string(), "row id, #, number of the crop: unique"),
            required("row_id", pa.string(), "of the image in the input: object and row number"),
            required("image_id", pa.string(), "SHA-256 of the encoded bytes, in hexadecimal"),
            described("caption", pa.string(), "text of the image; null where it has none"),
            described("captions", pa.list_(pa.string()), "alternative texts; null where there are none"),
            required("crop", pa.int16(), "among those of its image; 0 is the middle"),
            required("grid_height", pa.int16(), "rows of tokens"),
            required("grid_width", pa.int16(), "tokens a row"),
            required("original_width", pa.int32(), "pixels before it was resized"),
            required("original_height", pa.int32(), "pixels before it was resized"),
            required("crop_top", pa.int32(), "pixels of the resized image"),
            required("crop_left", pa.int32(), "pixels of the resized image"),
            required("score", pa.float32(), "quality, as the micro-condition is"),
            required("vq_digest", pa.string(), "SHA-256 over the VQ model's files"),
            required("tokens", pa.list_(pa.uint16(), grid[0] * grid[1]), "VQ codes, in reading order"),
        ]
    )


def shard_path(unit_id: str, grid: Grid, *, validation: bool) -> str:
    """Where a unit's grids of one size are."""
    return f"data/{unit_id}.{grid[0]}x{grid[1]}{'.validation' if validation else ''}.parquet"


def parse_shard_path(path: str) -> tuple[Grid, bool] | None:
    """The size of a shard's grids and whether they are held out; None where it is no such shard."""
    match = _SHARD.fullmatch(path)
    return None if match is None else ((int(match[1]), int(match[2])), match[3] is not None)

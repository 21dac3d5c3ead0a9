"""A token store: VQ codes of image crops with captions and micro-conditions, one row a crop.

Shards are `data/UNIT.HxW.parquet`, and `data/UNIT.HxW.validation.parquet` for images that are held out.
"""

from __future__ import annotations

import re

import pyarrow as pa

MICRO_CONDITIONS = ("original_width", "original_height", "crop_top", "crop_left", "score")
"""In the order in which the released model takes them."""
_SHARD = re.compile(r"data/[^/.]+\.(\d+)x(\d+)(\.validation)?\.parquet")

Grid = tuple[int, int]
"""Rows and columns of tokens."""


def tokens_schema(grid: Grid) -> pa.Schema:
    """Of the shards with grids of that size."""
    return pa.schema(
        [
            pa.field("token_id", pa.string(), nullable=False),  # row id, "#", number of the crop
            pa.field("row_id", pa.string(), nullable=False),
            pa.field("image_id", pa.string(), nullable=False),
            pa.field("caption", pa.string()),
            pa.field("captions", pa.list_(pa.string())),  # alternatives
            pa.field("crop", pa.int16(), nullable=False),
            pa.field("grid_height", pa.int16(), nullable=False),
            pa.field("grid_width", pa.int16(), nullable=False),
            pa.field("original_width", pa.int32(), nullable=False),
            pa.field("original_height", pa.int32(), nullable=False),
            pa.field("crop_top", pa.int32(), nullable=False),  # pixels of the resized image
            pa.field("crop_left", pa.int32(), nullable=False),
            pa.field("score", pa.float32(), nullable=False),  # as the micro-condition is
            pa.field("vq_digest", pa.string(), nullable=False),
            pa.field("tokens", pa.list_(pa.uint16(), grid[0] * grid[1]), nullable=False),  # in reading order
        ]
    )


def shard_path(unit_id: str, grid: Grid, *, validation: bool) -> str:
    """Where a unit's grids of one size are."""
    return f"data/{unit_id}.{grid[0]}x{grid[1]}{'.validation' if validation else ''}.parquet"


def parse_shard_path(path: str) -> tuple[Grid, bool] | None:
    """The size of a shard's grids and whether they are held out; None where it is no such shard."""
    match = _SHARD.fullmatch(path)
    return None if match is None else ((int(match[1]), int(match[2])), match[3] is not None)

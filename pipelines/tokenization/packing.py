"""How a unit's tokens become shards: one for each size of grid, those of held-out images apart."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.plan import Unit
from pipelines.shards import Shard, parquet_bytes
from schemas.tokens import shard_path, tokens_schema

_HASH_HEX, _HASHES = 8, 16**8


@dataclass(frozen=True, kw_only=True)
class PackTokens:
    """Encodes a unit's rows of a token store.

    Attributes:
        validation_share: Part of the images that is held out: those with the least digests, so all crops and
            copies of an image are on one side.
    """

    validation_share: float

    def __call__(self, unit: Unit, table: pa.Table) -> list[Shard]:
        """The shards, in the order of their grids."""
        held_out = pa.array(
            [_is_held_out(name, self.validation_share) for name in table["image_id"].to_pylist()]
        )
        grids = sorted(
            set(zip(table["grid_height"].to_pylist(), table["grid_width"].to_pylist(), strict=True))
        )
        shards = []
        for grid in grids:
            is_grid = pc.and_(pc.equal(table["grid_height"], grid[0]), pc.equal(table["grid_width"], grid[1]))
            for validation in (False, True):
                rows = table.filter(pc.and_(is_grid, pc.equal(held_out, validation)))
                if rows.num_rows:
                    data = parquet_bytes(_cast(rows, grid))
                    path = shard_path(unit.id, grid, validation=validation)
                    shards.append(Shard(path=path, data=data, rows=rows.num_rows))
        return shards


def _is_held_out(image_id: str, share: float) -> bool:
    return int(image_id[:_HASH_HEX], 16) < share * _HASHES


def _cast(rows: pa.Table, grid: tuple[int, int]) -> pa.Table:
    """The rows with their tokens as lists of one size."""
    schema = tokens_schema(grid)
    flat = rows["tokens"].combine_chunks().flatten()
    tokens = pa.FixedSizeListArray.from_arrays(flat, grid[0] * grid[1])
    columns = [tokens if name == "tokens" else rows[name] for name in schema.names]
    return pa.table(columns, names=schema.names).cast(schema)

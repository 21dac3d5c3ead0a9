"""A shard as Hugging Face datasets have it: `data/train-00000-of-00012.parquet`."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from pipelines.plan import Unit
from pipelines.shards import Shard, parquet_bytes

GROUP_ROWS = 100
"""The hub's viewer reads whole row groups, and shows a hundred rows a page."""


@dataclass(frozen=True, kw_only=True)
class PackForHub:
    """Encodes a shard with its images in it.

    Attributes:
        num_shards: Of the set.
    """

    num_shards: int

    def __call__(self, unit: Unit, table: pa.Table) -> list[Shard]:
        """The shard."""
        path = f"data/train-{unit.shard_name}-of-{self.num_shards:05d}.parquet"
        return [Shard(path=path, data=parquet_bytes(table, GROUP_ROWS), rows=table.num_rows)]

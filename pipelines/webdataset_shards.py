"""How a training set's shards become objects: WebDataset or Parquet, under their conventional names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipelines.packing import is_large
from pipelines.plan import Unit
from pipelines.shards import Shard, parquet_bytes
from pipelines.webdataset import json_member, tar_bytes
from schemas.manifest import json_bytes


@dataclass(frozen=True, kw_only=True)
class PackShard:
    """Encodes a shard: `data/NNNNN.parquet`, and for WebDataset `NNNNN.tar` and `NNNNN_stats.json` beside it.

    Attributes:
        format: See `ExportSettings`.
    """

    format: str

    def __call__(self, unit: Unit, table: pa.Table) -> list[Shard]:
        """All objects of the shard."""
        name = f"data/{unit.shard_name}"
        if self.format == "parquet":
            return [Shard(path=f"{name}.parquet", data=parquet_bytes(table), rows=table.num_rows)]
        facts = table.drop_columns(["image"]).replace_schema_metadata(None)
        stats = {
            "count": unit.num_rows,
            "successes": table.num_rows,
            "failed_to_download": unit.num_rows - table.num_rows,
            "failed_to_resize": 0,
            "status_dict": {"success": table.num_rows},
        }
        return [
            Shard(path=f"{name}.parquet", data=parquet_bytes(facts), rows=table.num_rows),
            Shard(path=f"{name}.tar", data=tar_bytes(_members(table, facts)), rows=table.num_rows),
            Shard(path=f"{name}_stats.json", data=json_bytes(stats), rows=0),
        ]


def _members(table: pa.Table, facts: pa.Table) -> Iterator[tuple[str, bytes]]:
    """Image, caption and facts of each sample."""
    about = facts.select([field.name for field in facts.schema if not is_large(field)]).to_pylist()
    for image, row in zip(table["image"], about, strict=True):
        yield image["path"].as_py(), image["bytes"].as_py()
        yield f"{row['key']}.txt", (row["caption"] or "").encode()
        yield f"{row['key']}.json", json_member(row)

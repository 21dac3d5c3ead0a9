"""Cut rows into shards: of each a Parquet file, the input of a job that has a unit a shard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipelines.plan import InputObject, Unit
from pipelines.shards import parquet_bytes
from pipelines.storage import Storage

SHARD_PLAN = ".shards"
"""Folder of such a job with the rows of each shard."""
_KEY_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class ShardCuts:
    """When a shard is full.

    Attributes:
        rows: Images at most.
        size_bytes: Of their encoded images in the input.
    """

    rows: int
    size_bytes: int


def write_shards(tables: Iterator[pa.Table], folder: Storage, cuts: ShardCuts) -> list[InputObject]:
    """Write the rows of each shard, a file each.

    Args:
        tables: All rows, with `size_bytes`.
        folder: Where the files go; they are named by their content.
        cuts: When a shard is full.
    """
    objects: list[InputObject] = []
    for rows in _cut(tables, cuts):
        data = parquet_bytes(rows)
        digest = hashlib.sha256(data).hexdigest()
        path = f"{len(objects):05d}-{digest[:12]}.parquet"
        folder.create(path, data)
        objects.append(InputObject(path=path, fingerprint=f"sha256:{digest}", rows=rows.num_rows))
    return objects


def sample_keys(unit: Unit) -> list[str]:
    """The keys of a shard's samples: `000420007` is row 7 of shard 42."""
    return [f"{unit.position:05d}{number - unit.row_start:0{_KEY_DIGITS}d}" for number in unit.row_numbers]


def _cut(tables: Iterator[pa.Table], cuts: ShardCuts) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    rows_waiting = bytes_waiting = 0
    for table in tables:
        start = 0
        for row, size in enumerate(table["size_bytes"].to_pylist()):
            if rows_waiting and (rows_waiting == cuts.rows or bytes_waiting + size > cuts.size_bytes):
                yield pa.concat_tables([*waiting, table.slice(start, row - start)])
                waiting, start, rows_waiting, bytes_waiting = [], row, 0, 0
            rows_waiting, bytes_waiting = rows_waiting + 1, bytes_waiting + size
        waiting.append(table.slice(start))
    if rows_waiting:
        yield pa.concat_tables(waiting)

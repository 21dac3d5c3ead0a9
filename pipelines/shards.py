"""Shards: complete output objects, encoded in memory so that an upload is all or nothing."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.plan import Unit

MAX_GROUP_BYTES = 32 << 20
"""Of the images in a row group, which is what a reader of a single one reads."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One output object of a unit.

    Attributes:
        path: `data/UNIT.suffix`, relative to the output folder; with the unit's id, so that no two share it.
        data: The object's bytes; they depend on the unit's rows and nothing else.
        rows: Rows or samples in it.
    """

    path: str
    data: bytes
    rows: int


def parquet_bytes(table: pa.Table, max_group_rows: int = 65_536) -> bytes:
    """The table as a Parquet file: one layout for equal tables, however they were chunked.

    Args:
        table: What to encode.
        max_group_rows: Of a row group; where there are images it has at most MAX_GROUP_BYTES of them, too.
    """
    table = table.combine_chunks()
    encoded = [
        f.name for f in table.schema if not (pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type))
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        version="2.6",
        data_page_version="1.0",
        use_dictionary=encoded,  # images and codes never repeat
        row_group_size=min(max_group_rows, _rows_of_images(table)),
    )
    return bytes(sink.getvalue())


def _rows_of_images(table: pa.Table) -> int:
    """Rows with about MAX_GROUP_BYTES in binary columns; by the values: buffers of equal tables differ."""
    lengths = [
        pc.sum(pc.binary_length(column)).as_py() or 0
        for column in table.flatten().columns
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
    ]
    return max(1, MAX_GROUP_BYTES * table.num_rows // max(sum(lengths), 1))


def parquet_shard(unit: Unit, table: pa.Table) -> list[Shard]:
    """All of a unit's results as `data/UNIT.parquet`."""
    return [Shard(path=f"data/{unit.id}.parquet", data=parquet_bytes(table), rows=table.num_rows)]

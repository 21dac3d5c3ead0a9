"""Shards are the same bytes for the same rows."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.plan import InputObject, plan_units
from pipelines.shards import parquet_bytes, parquet_shard
from schemas.prompts import IMAGE


def test_equal_tables_give_equal_parquet_bytes() -> None:
    whole = pa.table({"n": list(range(1000)), "text": [f"{n}" for n in range(1000)], "raw": [b"x"] * 1000})
    pieces = pa.concat_tables([whole.slice(start, 7) for start in range(0, 1000, 7)])
    assert parquet_bytes(pieces) == parquet_bytes(whole)


def test_a_reader_of_an_image_reads_a_part_of_its_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.shards.MAX_GROUP_BYTES", 1000)
    images = [{"bytes": bytes(100), "path": "x.png"}] * 24 + [None]
    table = pa.table({"image": pa.array(images, IMAGE), "n": range(25)})
    pieces = pa.concat_tables([table.slice(start, 3) for start in range(0, 25, 3)])
    data = parquet_bytes(table)
    assert parquet_bytes(pieces) == data
    groups = pq.ParquetFile(pa.BufferReader(data))
    assert [groups.metadata.row_group(i).num_rows for i in range(groups.num_row_groups)] == [10, 10, 5]
    assert groups.read().equals(table)


def test_metadata_and_types_survive() -> None:
    schema = pa.schema(
        [pa.field("raw", pa.large_binary()), pa.field("n", pa.uint8())], metadata={"huggingface": "{}"}
    )
    table = pa.table([[b"x", None], [1, 2]], schema=schema)
    assert pq.read_table(pa.BufferReader(parquet_bytes(table))).equals(table, check_metadata=True)


def test_a_unit_becomes_one_shard_of_its_name() -> None:
    unit = plan_units([InputObject(path="a.parquet", fingerprint="f", rows=2)], 2, "c")[0]
    (shard,) = parquet_shard(unit, pa.table({"n": [1, 2]}))
    assert (shard.path, shard.rows) == (f"data/{unit.id}.parquet", 2)

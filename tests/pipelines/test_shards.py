"""Shards are the same bytes for the same rows."""

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.plan import InputObject, plan_units
from pipelines.shards import parquet_bytes, parquet_shard


def test_equal_tables_give_equal_parquet_bytes() -> None:
    whole = pa.table({"n": list(range(1000)), "text": [f"{n}" for n in range(1000)], "raw": [b"x"] * 1000})
    pieces = pa.concat_tables([whole.slice(start, 7) for start in range(0, 1000, 7)])
    assert parquet_bytes(pieces) == parquet_bytes(whole)


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

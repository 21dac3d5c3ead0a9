"""Parquet inputs are found and read alike in a folder and in a bucket."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.inputs import find_parquet, read_unit
from pipelines.plan import PlanError, plan_units, retry_unit
from pipelines.shards import parquet_bytes
from pipelines.storage import StorageError, child, open_storage
from tests.pipelines.toys import finish_inline, square_ledger, write_input


def _table(start: int, stop: int) -> pa.Table:
    return pa.table({"n": list(range(start, stop)), "text": [f"t{n}" for n in range(start, stop)]})


def test_a_folder_gives_its_files_in_order(root_uri: str) -> None:
    storage = open_storage(root_uri)
    for name in ("b.parquet", "a/z.parquet", "_tmp.parquet", ".hidden/x.parquet", "notes.txt"):
        storage.write(name, parquet_bytes(_table(0, 5)))
    found = find_parquet(root_uri)
    assert [(o.path, o.rows) for o in found.objects] == [("a/z.parquet", 5), ("b.parquet", 5)]


def test_one_file_has_the_same_units_wherever_it_is(root_uri: str) -> None:
    storage = open_storage(root_uri)
    storage.write("x/prompts.parquet", parquet_bytes(_table(0, 5)))
    storage.write("moved/to/prompts.parquet", parquet_bytes(_table(0, 5)))
    plans = [
        plan_units(find_parquet(child(root_uri, f"{place}/prompts.parquet")).objects, 2, "c")
        for place in ("x", "moved/to")
    ]
    assert plans[0] == plans[1]


@pytest.mark.parametrize("row_group_size", [1, 7, 1000])
def test_units_read_exactly_their_rows(root_uri: str, tmp_path: Path, row_group_size: int) -> None:
    pq.write_table(_table(0, 40), tmp_path / "t.parquet", row_group_size=row_group_size)
    open_storage(root_uri).write("t.parquet", (tmp_path / "t.parquet").read_bytes())
    found = find_parquet(root_uri)
    units = plan_units(found.objects, 6, "c")
    assert pa.concat_tables([read_unit(found.storage, unit) for unit in units]).equals(_table(0, 40))
    some = retry_unit(units[3], 1, [19, 23])
    assert read_unit(found.storage, some, ["n"]).to_pydict() == {"n": [19, 23]}


def test_a_dataset_is_read_through_its_manifest(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in")
    finish_inline(str(tmp_path / "out"), source)
    (tmp_path / "out" / "data" / "leftover.parquet").write_bytes(b"never named")
    found = find_parquet(str(tmp_path / "out"))
    assert len(found.objects) == 8
    assert sum(o.rows for o in found.objects) == 40
    assert all(o.fingerprint.startswith("sha256:") for o in found.objects)


def test_an_unfinished_run_is_no_input(tmp_path: Path) -> None:
    square_ledger(str(tmp_path / "out"), write_input(tmp_path / "in"))
    with pytest.raises(PlanError, match="has not finished"):
        find_parquet(str(tmp_path / "out"))


def test_a_folder_without_parquet_is_refused(root_uri: str) -> None:
    open_storage(root_uri).write("notes.txt", b"")
    with pytest.raises(PlanError, match="no Parquet files"):
        find_parquet(root_uri)


def test_a_damaged_file_is_named(root_uri: str) -> None:
    open_storage(root_uri).write("bad.parquet", b"not parquet at all")
    with pytest.raises(PlanError, match=r"bad\.parquet: not a Parquet file"):
        find_parquet(root_uri)


def test_an_input_that_shrank_is_noticed(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in", rows=20, files=1)
    found = find_parquet(source)
    unit = plan_units(found.objects, 20, "shrank")[0]
    pq.write_table(_table(0, 3), tmp_path / "in" / "part-0.parquet")
    with pytest.raises(StorageError, match="it changed since the job was planned"):
        read_unit(found.storage, unit)

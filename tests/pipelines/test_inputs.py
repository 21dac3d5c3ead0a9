"""Parquet inputs are found and read alike in a folder and in a bucket."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import inputs
from pipelines.inputs import ParquetInput, find_parquet, read_unit
from pipelines.plan import InputObject, PlanError, plan_units, retry_unit
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


def test_row_groups_that_would_fill_the_memory_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MAX_GROUP_BYTES", 3000)
    zeros = pa.table({"n": [0] * 1000})  # a few bytes in the file
    texts = pa.table({"text": ["short"] * 500 + [f"{number:0100d}" for number in range(500)]})
    for table, name in ((zeros, "zeros"), (texts, "texts")):
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=500)
        pattern = rf"{name}\.parquet: row group [01]: at least \d+ bytes .* the limit is 3000.*row_group_size"
        with pytest.raises(PlanError, match=pattern):
            find_parquet(str(tmp_path / f"{name}.parquet"))
    pq.write_table(zeros, tmp_path / "zeros.parquet", row_group_size=300)
    assert find_parquet(str(tmp_path / "zeros.parquet")).objects[0].rows == 1000


def test_too_many_columns_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_COLUMNS", 2)
    pq.write_table(_table(0, 5), tmp_path / "two.parquet")
    assert find_parquet(str(tmp_path)).objects[0].rows == 5
    pq.write_table(_table(0, 5).append_column("list", [[[1]]] * 5), tmp_path / "three.parquet")
    with pytest.raises(PlanError, match=r"three\.parquet: 3 columns; the limit is 2"):
        find_parquet(str(tmp_path))


def test_metadata_out_of_proportion_is_refused(tmp_path: Path) -> None:
    pq.write_table(_table(0, 5).replace_schema_metadata({"note": "x" * (20 << 20)}), tmp_path / "t.parquet")
    with pytest.raises(PlanError, match=r"t\.parquet: not a Parquet file .*size limit"):
        find_parquet(str(tmp_path))


def test_damaged_metadata_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"n": range(37)}), file)
    sound = file.read_bytes()
    footer = len(sound) - 8 - int.from_bytes(sound[-8:-4], "little")
    found = set()
    for position in range(footer, len(sound) - 8):
        if sound[position] == 37 * 2:  # 37 as Thrift writes it; 37 * 2 + 1 is -38
            file.write_bytes(sound[:position] + bytes([37 * 2 + 1]) + sound[position + 1 :])
            try:
                found.add(f"{find_parquet(str(file)).objects[0].rows} rows")
            except PlanError as error:
                found.add(str(error).removeprefix(f"{file}: "))
    assert {"-38 rows, but 37 in its row groups; replace the damaged file"} < found
    assert "row group 0: impossible counts; replace the damaged file" in found
    assert not any(message.startswith("-38 rows") and "but" not in message for message in found)


def test_damaged_pages_are_named(root_uri: str, tmp_path: Path) -> None:
    pq.write_table(_table(0, 50), tmp_path / "t.parquet")
    data = bytearray((tmp_path / "t.parquet").read_bytes())
    data[4:200] = bytes(196)
    open_storage(root_uri).write("t.parquet", bytes(data))
    found = find_parquet(root_uri)
    with pytest.raises(StorageError, match=r"t\.parquet: row group 0 cannot be decoded .*replace the file"):
        read_unit(found.storage, plan_units(found.objects, 50, "c")[0])


def test_rows_are_located_by_their_place_among_all(tmp_path: Path) -> None:
    objects = [InputObject(path=f"{n}", fingerprint="", rows=rows) for n, rows in enumerate((3, 0, 2, 4))]
    found = ParquetInput(storage=open_storage(str(tmp_path)), objects=objects)
    located = [
        (item.path, numbers, ordinals) for item, numbers, ordinals in found.located([8, 3, 0, 4, 2, 3])
    ]
    assert located == [("0", [0, 2], [0, 2]), ("2", [0, 1], [3, 4]), ("3", [3], [8])]
    assert list(found.located([])) == []

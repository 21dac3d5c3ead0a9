"""Every corruption of a finished run is found and named."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.commit import commit_path
from pipelines.ledger import Ledger
from pipelines.shards import parquet_bytes
from pipelines.storage import Storage
from pipelines.verify import verify
from schemas.described import required
from schemas.manifest import ObjectEntry
from tests.pipelines.toys import commit_inline, finish_inline, square_ledger, write_input, write_manifest


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write_input(tmp_path / "in", negative=(3, 33))


@pytest.fixture
def ledger(tmp_path: Path, source: str) -> Ledger:
    return finish_inline(str(tmp_path / "out"), source)


def _replace(ledger: Ledger, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the second unit's shard and correct its record, as a careful forger would."""
    path, storage = commit_path(ledger.planned()[1].id), ledger.storage
    record = json.loads(storage.read(path))
    output = record["outputs"][0]
    table = change(pq.read_table(pa.BufferReader(storage.read(output["path"]))))
    data = parquet_bytes(table)
    storage.write(output["path"], data)
    output |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "rows": table.num_rows}
    storage.write(path, json.dumps(record | {"rows_out": table.num_rows}).encode())


def _flip(storage: Storage, path: str) -> None:
    data = bytearray(storage.read(path))
    data[len(data) // 2] ^= 1
    storage.write(path, bytes(data))


def _found(ledger: Ledger) -> dict[str, str]:
    return {problem.path: problem.what for problem in verify(ledger.storage.uri).problems}


def test_a_sound_run_has_no_problems(root_uri: str, source: str) -> None:
    report = verify(finish_inline(root_uri, source).storage.uri)
    assert report.problems == []
    assert (report.units, report.objects, report.rows, report.rows_out, report.rows_failed) == (
        8,
        10,
        40,
        38,
        2,
    )
    assert str(report).endswith("all is as recorded")


def test_a_retried_run_has_no_problems(ledger: Ledger, source: str) -> None:
    retries = ledger.plan_retries()
    commit_inline(ledger, retries, source)
    write_manifest(ledger)
    report = verify(ledger.storage.uri)
    assert report.problems == []
    assert report.rows_failed == 2


def test_a_flipped_byte_is_found(ledger: Ledger) -> None:
    unit = ledger.planned()[2].id
    _flip(ledger.storage, f"data/{unit}.parquet")
    assert "its bytes changed" in str(verify(ledger.storage.uri))
    assert set(_found(ledger)) == {f"data/{unit}.parquet"}


def test_a_flipped_byte_in_dead_letters_is_found(ledger: Ledger) -> None:
    unit = ledger.planned()[0].id
    _flip(ledger.storage, f"failed/{unit}.parquet")
    assert f"failed/{unit}.parquet" in _found(ledger)


def test_a_deleted_shard_is_found(ledger: Ledger) -> None:
    path = f"data/{ledger.planned()[2].id}.parquet"
    ledger.storage.delete(path)
    assert "no such file" in _found(ledger)[path]


def test_a_missing_commit_is_found(ledger: Ledger) -> None:
    path = commit_path(ledger.planned()[2].id)
    ledger.storage.delete(path)
    assert _found(ledger) == {path: "missing: the unit is not done; start the job again"}


def test_a_damaged_commit_is_found(ledger: Ledger) -> None:
    path = commit_path(ledger.planned()[2].id)
    ledger.storage.write(path, ledger.storage.read(path)[:50])
    assert "not JSON" in _found(ledger)[path]
    ledger.storage.write(path, b"{}")
    assert "not a commit record" in _found(ledger)[path]


def test_a_commit_outside_the_plan_is_found(ledger: Ledger) -> None:
    ledger.storage.write("commits/99999999-000000000000.json", b"{}")
    assert "commits/99999999-000000000000.json" in _found(ledger)


def test_an_extra_row_is_found(ledger: Ledger) -> None:
    extra = {"name": ["row-99"], "sample_id": ["row-99-0"], "square": [1]}
    _replace(ledger, lambda t: pa.concat_tables([t, pa.table(extra, schema=t.schema)]))
    assert "digest of row ids" in _found(ledger)[commit_path(ledger.planned()[1].id)]
    assert "not what the commit records say" in _found(ledger)["manifest.json"]


def test_a_lost_row_is_found(ledger: Ledger) -> None:
    _replace(ledger, lambda t: t.slice(1))
    assert "digest of row ids" in _found(ledger)[commit_path(ledger.planned()[1].id)]


def test_a_repeated_id_is_found_in_both_places(ledger: Ledger) -> None:
    ids = ["row-25-0", "row-6-0", "row-7-0", "row-8-0", "row-9-0"]
    _replace(ledger, lambda t: t.set_column(1, "sample_id", pa.array(ids)))
    found = _found(ledger)
    units = ledger.planned()
    for unit in (units[1], units[5]):
        assert (
            "1 values of 'sample_id' that occur more than once, such as 'row-25-0'"
            in found[f"data/{unit.id}"]
        )


def test_another_schema_is_found(ledger: Ledger) -> None:
    _replace(ledger, lambda t: t.set_column(2, "square", t["square"].cast(pa.float64())))
    assert "its schema differs" in _found(ledger)[f"data/{ledger.planned()[1].id}.parquet"]


def test_a_shard_by_code_that_described_columns_otherwise_is_none(ledger: Ledger) -> None:
    said = required("square", pa.int64(), "the number times itself")
    _replace(ledger, lambda t: t.set_column(2, said.with_nullable(t.schema.field(2).nullable), t["square"]))
    assert not any("schema" in what for what in _found(ledger).values())


def test_a_stale_manifest_is_found(ledger: Ledger) -> None:
    ledger.storage.write("manifest.json", b"{}")
    assert "not what the commit records say" in _found(ledger)["manifest.json"]
    ledger.storage.delete("manifest.json")
    assert "cannot be read" in _found(ledger)["manifest.json"]


def test_another_plan_is_found(ledger: Ledger, tmp_path: Path) -> None:
    other = square_ledger(str(tmp_path / "other"), write_input(tmp_path / "in2", rows=10))
    ledger.storage.write("plan.parquet", other.storage.read("plan.parquet"))
    assert "not the plan that run.json names" in _found(ledger)["plan.parquet"]


def test_an_unfinished_run_names_what_is_missing(tmp_path: Path, source: str) -> None:
    ledger = square_ledger(str(tmp_path / "part"), source)
    commit_inline(ledger, ledger.planned()[:6], source)
    assert len(_found(ledger)) == 2


def _add_tar(ledger: Ledger, change: Callable[[list[tuple[str, bytes]]], None], rows: int = 5) -> str | None:
    """Record a WebDataset shard beside the second unit's, and say what is found wrong with it."""
    unit, storage = ledger.planned()[1].id, ledger.storage
    ids = pq.read_table(pa.BufferReader(storage.read(f"data/{unit}.parquet")))["sample_id"].to_pylist()
    members = [(f"{key}.{suffix}", b"content") for key in ids for suffix in ("png", "txt", "json")]
    change(members)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    entry = ObjectEntry.of(f"data/{unit}.tar", buffer.getvalue(), rows)
    storage.write(entry.path, buffer.getvalue())
    record = json.loads(storage.read(commit_path(unit)))
    record["outputs"].append(asdict(entry))
    storage.write(commit_path(unit), json.dumps(record).encode())
    return _found(ledger).get(entry.path)


def test_a_sound_webdataset_shard_has_no_problems(ledger: Ledger) -> None:
    assert _add_tar(ledger, lambda members: None) is None
    write_manifest(ledger)
    assert verify(ledger.storage.uri).problems == []


@pytest.mark.parametrize(
    ("change", "rows", "reason"),
    [
        (lambda members: members.clear(), 5, "0 samples, recorded 5"),
        (lambda members: members.__delitem__(slice(0, 3)), 5, "4 samples, recorded 5"),
        (lambda members: None, 4, "5 samples, recorded 4"),
        (lambda members: members.pop(0), 5, "1 samples that are not one image, .txt and .json"),
        (lambda members: members.pop(4), 5, "such as 'row-6-0'"),
        (lambda members: members.pop(5), 5, "such as 'row-6-0'"),
        (lambda members: members.append(("row-5-0.webp", b"")), 5, "such as 'row-5-0'"),
        (
            lambda members: members.__setitem__(
                slice(0, 3), [(f"x.{suffix}", b"") for suffix in ("png", "txt", "json")]
            ),
            5,
            "its samples are not the rows of the Parquet shard",
        ),
        (lambda members: members.append(("../x.txt", b"")), 5, "not readable as a tar: member 16"),
        (lambda members: members.append(members[0]), 5, "the second of that name"),
    ],
)
def test_a_webdataset_shard_that_does_not_hold_its_samples_is_found(
    ledger: Ledger, change: Callable[[list[tuple[str, bytes]]], None], rows: int, reason: str
) -> None:
    assert reason in (_add_tar(ledger, change, rows) or "")

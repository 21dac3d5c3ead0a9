"""Manifests are written and read whole or in parts."""

from pathlib import Path

import pytest

from pipelines.commit import Commit
from pipelines.manifest import manifest_files, read_entries, read_manifest
from pipelines.storage import StorageError, open_storage
from tests.pipelines.toys import commit_inline, finish_inline, square_ledger, write_input


@pytest.fixture
def commits(tmp_path: Path) -> list[Commit]:
    """Of eight units, each with a shard, three of them with dead letters."""
    source = write_input(tmp_path / "in", negative=(3, 17, 33))
    ledger = square_ledger(str(tmp_path / "run"), source)
    return list(commit_inline(ledger, ledger.planned(), source).values())


@pytest.mark.parametrize("part_objects", [2, 3, 8, 100])
def test_all_objects_are_read_back_in_order(root_uri: str, commits: list[Commit], part_objects: int) -> None:
    storage = open_storage(root_uri)
    files = list(manifest_files({"job": "test"}, commits, part_objects))
    for path, data in files:
        storage.write(path, data)
    assert files[-1][0] == "manifest.json"
    assert read_entries(storage) == [entry for commit in commits for entry in commit.outputs]
    assert read_entries(storage, "failed") == [commit.failed for commit in commits if commit.failed]
    manifest = read_manifest(storage)
    assert manifest["job"] == "test"
    assert ("parts" in manifest, "parts" in manifest["failed"]) == (part_objects < 8, part_objects < 3)
    totals = {name: manifest[name] for name in ("units", "rows_in", "rows_done", "rows_failed", "rows_out")}
    assert totals == {"units": 8, "rows_in": 40, "rows_done": 37, "rows_failed": 3, "rows_out": 37}


def test_of_dead_letters_only_the_last_rounds_count(tmp_path: Path) -> None:
    source = write_input(tmp_path / "in", negative=(3, 33))
    ledger = finish_inline(str(tmp_path / "run"), source)
    first = ledger.committed(ledger.planned())
    retried = commit_inline(ledger, ledger.plan_retries()[:1], source)
    in_order = sorted([*first.values(), *retried.values()], key=lambda commit: commit.unit)
    storage = open_storage(str(tmp_path / "again"))
    for path, data in manifest_files({}, in_order):
        storage.write(path, data)
    assert read_entries(storage, "failed")[0].path.endswith("-r1.parquet")
    assert read_manifest(storage)["rows_failed"] == 2


def test_a_manifest_stays_whole_until_the_next_one_is_written(root_uri: str, commits: list[Commit]) -> None:
    storage = open_storage(root_uri)
    for path, data in manifest_files({}, commits, part_objects=2):
        storage.write(path, data)
    before = read_entries(storage)
    for path, data in list(manifest_files({}, commits[1:], part_objects=2))[:-1]:  # then the driver is killed
        storage.write(path, data)
    assert read_entries(storage) == before


@pytest.mark.parametrize(
    ("data", "message"), [(b"{", "not JSON"), (b"[]", "not a JSON object"), (b"{}", "format is None")]
)
def test_other_files_are_refused(root_uri: str, data: bytes, message: str) -> None:
    storage = open_storage(root_uri)
    storage.write("manifest.json", data)
    with pytest.raises(StorageError, match=message):
        read_manifest(storage)

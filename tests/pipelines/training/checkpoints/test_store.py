"""Which checkpoints are complete, and which files stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.storage import Storage, StorageError, open_storage
from pipelines.training.checkpoints import CheckpointRecord, CheckpointStore, CheckpointStoreError
from schemas.manifest import ObjectEntry


@pytest.fixture
def storage(root_uri: str) -> Storage:
    return open_storage(root_uri)


@pytest.fixture
def folder(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "stage"))


def _upload(storage: Storage, step: int, attempt: str = "a") -> CheckpointRecord:
    path = f"checkpoints/step-{step:08d}/{attempt}/__0_0.distcp"
    data = f"{step} {attempt}".encode()
    storage.write(path, data)
    return CheckpointRecord(step=step, files=(ObjectEntry.of(path, data, 0),), world_size=1)


def _save(storage: Storage, *steps: int) -> CheckpointStore:
    store = CheckpointStore(storage)
    for step in steps:
        store.commit(_upload(storage, step))
    return store


def _paths(storage: Storage) -> list[str]:
    return [entry.path for entry in storage.list("checkpoints/")]


def _age(storage: Storage, path: str) -> None:
    """Make a file of a folder older than all others."""
    os.utime(storage.uri_of(path), (1, 1))


def test_a_checkpoint_is_complete_when_its_record_is_there(storage: Storage) -> None:
    store = _save(storage, 100, 20)
    _upload(storage, 300)
    assert store.steps() == [20, 100]
    assert store.newest() == 100
    assert store.record(100).files[0].path == "checkpoints/step-00000100/a/__0_0.distcp"


def test_a_folder_without_checkpoints_has_no_newest(folder: Storage) -> None:
    assert CheckpointStore(folder).newest() is None


def test_records_are_read_as_they_were_written(folder: Storage) -> None:
    store = CheckpointStore(folder)
    record = CheckpointRecord(step=7, files=(), world_size=4)
    store.commit(record)
    assert store.record(7) == record


def test_a_second_attempt_at_a_step_changes_nothing(
    folder: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    store = _save(folder, 100)
    store.commit(_upload(folder, 100, "b"))
    assert store.record(100).files[0].path.endswith("/a/__0_0.distcp")
    assert "another attempt" in caplog.text


def test_the_message_of_a_missing_checkpoint_names_those_that_are_there(folder: Storage) -> None:
    store = _save(folder, 100, 200)
    with pytest.raises(CheckpointStoreError, match=r"step-00000150.json: no such .* 100, 200"):
        store.record(150)


def test_damaged_and_foreign_records_are_refused(folder: Storage) -> None:
    store = CheckpointStore(folder)
    folder.write("checkpoints/step-00000001.json", b"{")
    folder.write("checkpoints/step-00000002.json", b'{"format": "x"}')
    with pytest.raises(StorageError, match=r"step-00000001.json: not JSON"):
        store.record(1)
    with pytest.raises(CheckpointStoreError, match=r"step-00000002.json: format is 'x'"):
        store.record(2)


def test_a_deleted_checkpoint_leaves_no_files(storage: Storage) -> None:
    store = _save(storage, 100, 200)
    store.delete(100)
    assert store.steps() == [200]
    assert not any("00000100" in path for path in _paths(storage))


def test_the_newest_stay_and_those_of_every_so_many_steps(folder: Storage) -> None:
    store = _save(folder, 100, 200, 300, 400, 500)
    assert store.collect(keep_last=2, keep_every=200) == [100, 300]
    assert store.steps() == [200, 400, 500]
    assert len(_paths(folder)) == 6


def test_what_killed_attempts_left_goes(folder: Storage) -> None:
    store = _save(folder, 100, 200)
    for step in (100, 150, 200):
        _age(folder, _upload(folder, step, "killed").files[0].path)
    store.collect(keep_last=2)
    assert store.steps() == [100, 200]
    assert not any("killed" in path for path in _paths(folder))
    assert len(_paths(folder)) == 4


def test_files_of_an_attempt_that_may_be_under_way_stay(folder: Storage) -> None:
    store = _save(folder, 100)
    later, again = _upload(folder, 200, "now"), _upload(folder, 100, "now")
    _age(folder, later.files[0].path)
    store.collect(keep_last=1)
    assert {later.files[0].path, again.files[0].path} <= set(_paths(folder))


def test_without_a_complete_checkpoint_nothing_goes(folder: Storage) -> None:
    _age(folder, _upload(folder, 100).files[0].path)
    assert CheckpointStore(folder).collect(keep_last=1) == []
    assert len(_paths(folder)) == 1

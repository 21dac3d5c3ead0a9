"""Storage through fsspec, on its in-memory file system."""

import uuid
from pathlib import Path

import pytest

from pipelines.storage import ObjectMissingError, open_storage, split_uri
from pipelines.storage.probe import probe


@pytest.fixture
def uri() -> str:
    return f"memory://bucket/{uuid.uuid4().hex}"


def test_objects_are_written_once_listed_and_deleted(uri: str) -> None:
    storage = open_storage(uri)
    assert storage.create("data/b", b"first")
    assert not storage.create("data/b", b"second")
    storage.write("data/a", b"12")
    storage.write("other", b"1")
    assert storage.read("data/b") == b"first"
    assert [(entry.path, entry.size_bytes) for entry in storage.list("data/")] == [
        ("data/a", 2),
        ("data/b", 5),
    ]
    assert [entry.path for entry in storage.list("data/", after="data/a")] == ["data/b"]
    before = storage.fingerprint("data/a")
    storage.write("data/a", b"13")
    assert storage.fingerprint("data/a") != before
    storage.delete("data/a")
    storage.delete("data/a")
    assert [entry.path for entry in storage.list()] == ["data/b", "other"]
    assert all(abs(entry.modified_at - storage.now()) < 60 for entry in storage.list())


def test_ranges_are_read(uri: str) -> None:
    open_storage(uri).write("big", bytes(range(256)) * 5000)
    storage, name = split_uri(f"{uri}/big")
    with storage.open(name) as stream:
        stream.seek(700_000)
        assert stream.read(3) == bytes([96, 97, 98])


def test_files_are_written(uri: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 5000)
    open_storage(uri).write_file("folder/file", tmp_path / "file")
    assert open_storage(uri).read("folder/file") == bytes(range(256)) * 5000


def test_missing_objects_are_named(uri: str) -> None:
    storage = open_storage(uri)
    storage.write("folder/a", b"")
    for path in ("absent", "folder"):
        assert not storage.exists(path)
        for use in (storage.read, storage.size, storage.open, storage.fingerprint):
            with pytest.raises(ObjectMissingError, match=path):
                use(path)


def test_it_can_hold_a_run(uri: str) -> None:
    probe(open_storage(uri))
    assert list(open_storage(uri).list()) == []

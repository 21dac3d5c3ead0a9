"""Manifests are written and read whole or in parts."""

import pytest

from pipelines.manifest import manifest_files, read_entries, read_manifest
from pipelines.storage import StorageError, open_storage
from schemas.manifest import ObjectEntry

ENTRIES = [ObjectEntry.of(f"data/{n}.parquet", b"x" * n, rows=n) for n in range(7)]


@pytest.mark.parametrize("part_objects", [2, 7, 100])
def test_all_objects_are_read_back_in_order(root_uri: str, part_objects: int) -> None:
    storage = open_storage(root_uri)
    for path, data in manifest_files({"job": "test"}, ENTRIES, ENTRIES[:3], part_objects).items():
        storage.write(path, data)
    assert read_manifest(storage)["job"] == "test"
    assert read_entries(storage) == ENTRIES
    assert read_entries(storage, "failed") == ENTRIES[:3]


def test_the_manifest_itself_comes_last() -> None:
    assert list(manifest_files({}, ENTRIES, [], 2))[-1] == "manifest.json"


@pytest.mark.parametrize(
    ("data", "message"), [(b"{", "not JSON"), (b"[]", "not a JSON object"), (b"{}", "format is None")]
)
def test_other_files_are_refused(root_uri: str, data: bytes, message: str) -> None:
    storage = open_storage(root_uri)
    storage.write("manifest.json", data)
    with pytest.raises(StorageError, match=message):
        read_manifest(storage)

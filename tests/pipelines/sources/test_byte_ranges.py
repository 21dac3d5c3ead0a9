"""Small ranges that lie close together are read at once."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from pipelines.sources import byte_ranges
from pipelines.sources.byte_ranges import read_places
from pipelines.storage import StorageError, open_storage
from pipelines.storage.local import LocalStorage

DATA = bytes(range(256)) * 4


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Ranges that are read of the object "a"."""
    (tmp_path / "a").write_bytes(DATA)
    found: list[tuple[int, int]] = []

    class Stream(io.BytesIO):
        def read(self, size: Any = -1) -> bytes:
            found.append((self.tell(), size))
            return super().read(size)

    monkeypatch.setattr(LocalStorage, "open", lambda self, path: Stream(DATA))
    monkeypatch.setattr(byte_ranges, "_MAX_GAP_BYTES", 10)
    monkeypatch.setattr(byte_ranges, "_MAX_RANGE_BYTES", 100)
    return found


@pytest.mark.parametrize(
    ("places", "ranges"),
    [
        ([(0, 10), (20, 10)], [(0, 30)]),
        ([(0, 10), (21, 10)], [(0, 10), (21, 10)]),
        ([(20, 10), (0, 10), (0, 10)], [(0, 30)]),
        ([(0, 60), (60, 60)], [(0, 60), (60, 60)]),
        ([(0, 500)], [(0, 500)]),
        ([(0, 50), (10, 5), (50, 5)], [(0, 55)]),
        ([(7, 0)], []),
    ],
)
def test_what_lies_close_is_read_at_once(
    tmp_path: Path, reads: list[tuple[int, int]], places: list[tuple[int, int]], ranges: list[tuple[int, int]]
) -> None:
    found = read_places(open_storage(str(tmp_path)), "a", places)
    assert found == {(start, size): DATA[start : start + size] for start, size in places if size}
    assert reads == ranges


def test_an_object_that_is_shorter_than_planned_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with pytest.raises(StorageError, match="it ends before byte 1034"):
        read_places(open_storage(str(tmp_path)), "a", [(1024, 10)])

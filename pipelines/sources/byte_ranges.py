"""Read many small ranges of one object in few requests."""

from collections.abc import Iterable

from pipelines.storage import Storage, StorageError

Place = tuple[int, int]
"""Offset and size, in bytes."""
_MAX_GAP_BYTES = 1 << 18
_MAX_RANGE_BYTES = 32 << 20


def read_places(storage: Storage, path: str, places: Iterable[Place]) -> dict[Place, bytes]:
    """The bytes at these places of an object; what lies close together is read at once.

    Raises:
        StorageError: The object cannot be read, or ends before one of them.
    """
    found: dict[Place, bytes] = {}
    with storage.open(path) as stream:
        for group in _groups(sorted({place for place in places if place[1]})):
            start, stop = group[0][0], max(offset + size for offset, size in group)
            stream.seek(start)
            data = memoryview(stream.read(stop - start))
            if len(data) != stop - start:
                raise StorageError(
                    f"{storage.uri_of(path)}: it ends before byte {stop}: it changed since the job was "
                    "planned; restore it, or start a new output folder"
                )
            for offset, size in group:
                found[offset, size] = bytes(data[offset - start : offset - start + size])
    return found


def _groups(places: list[Place]) -> list[list[Place]]:
    groups: list[list[Place]] = []
    stop = 0
    for place in places:
        close = bool(groups) and place[0] - stop <= _MAX_GAP_BYTES
        if close and place[0] + place[1] - groups[-1][0][0] <= _MAX_RANGE_BYTES:
            groups[-1].append(place)
        else:
            groups.append([place])
        stop = max(stop, place[0] + place[1])
    return groups

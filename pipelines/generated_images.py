"""Images of generated rows that lie beside their Parquet shard: in the tar of its name, or in its folder."""

from __future__ import annotations

from functools import lru_cache

from pipelines.archives import ArchiveLimits, scan
from pipelines.decoding import ImageError
from pipelines.images import RowImages, image_bytes
from pipelines.sources.byte_ranges import Place, read_places
from pipelines.storage import Storage, child

_DATA = "data/"
_TARS = 32
"""Whose listings are kept: rows that are looked at together are of a few."""
_LIMITS = RowImages()


class ImagesBeside:
    """Reads them, in many threads at once.

    A path in a row is taken only where it names a file of the row's own shard.

    Args:
        storage: The output folder of `generate`.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._members = lru_cache(_TARS)(self._read_members)

    def read(self, shard: str, path: str) -> bytes:
        """The encoded image.

        Args:
            shard: The row's Parquet object.
            path: As its column `image` has it.

        Raises:
            ImageError: The path names no file of the shard, or there is none of that name any more.
            StorageError: The storage cannot be read.
        """
        stem = shard.removeprefix(_DATA).removesuffix(".parquet")
        folder, _, name = path.partition("/")
        if folder not in (stem, f"{stem}.tar") or not name or "/" in name or name in (".", ".."):
            raise ImageError("the row names a file that is not of its own shard")
        if folder == stem:
            return image_bytes({"bytes": None, "path": path}, child(self._storage.uri, _DATA[:-1]), _LIMITS)
        place = self._members(_DATA + folder).get(name)
        if place is None or place[1] > _LIMITS.max_bytes:
            raise ImageError("the tar beside the shard has no such image")
        return read_places(self._storage, _DATA + folder, [place])[place]

    def _read_members(self, tar: str) -> dict[str, Place]:
        """Where the files of a tar are."""
        with self._storage.open(tar) as stream:
            found = scan(stream, ArchiveLimits())
            return {
                member.name: (member.offset, member.size)
                for member in found
                if member.fault is None and member.name
            }

"""Storage that fsspec serves, such as Google's (package gcsfs) and Azure's (adlfs).

Retries, credentials and endpoints are those of the package; its page lists the environment variables.
"""

import functools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import fsspec
from typing_extensions import override

from pipelines.storage.interface import (
    ConditionalWriteError,
    ObjectMissingError,
    RangeReader,
    Storage,
    StorageError,
    StoredObject,
)

_FINGERPRINTS = ("etag", "ETag", "md5Hash", "content_md5", "crc32c", "generation")


class FsspecStorage(Storage):
    """Objects under a URI of a scheme that fsspec knows."""

    def __init__(self, uri: str, *, single_writer: bool = False) -> None:
        self._location = uri.rstrip("/")
        self.single_writer = single_writer
        self.uri = f"{self._location}?single_writer=true" if single_writer else self._location
        self._root = self._files._strip_protocol(self._location)

    @override
    def uri_of(self, path: str) -> str:
        return f"{self._location}/{path}" if path else self._location

    @override
    def read(self, path: str) -> bytes:
        try:
            return cast(bytes, self._files.cat_file(self._key(path)))
        except (FileNotFoundError, IsADirectoryError) as error:
            raise self._missing(path) from error

    @override
    def open(self, path: str) -> BinaryIO:
        key = self._key(path)
        read_range = functools.partial(self._files.cat_file, key)
        return RangeReader.buffered(read_range, self.size(path))

    @override
    def size(self, path: str) -> int:
        return cast(int, self._info(path)["size"])

    @override
    def fingerprint(self, path: str) -> str:
        info = self._info(path)
        tag = next((f"{name}:{info[name]}" for name in _FINGERPRINTS if info.get(name)), None)
        return f"sha256:{self.sha256(path)}" if tag is None else f"{tag}:{info['size']}"

    @override
    def list(self, prefix: str = "", after: str = "") -> Iterator[StoredObject]:
        folder = prefix.rpartition("/")[0]
        found = self._files.find(self._key(folder) if folder else self._root, detail=True)
        start = len(self._root) + 1
        for name in sorted(found):
            path = name[start:]
            if path.startswith(prefix) and path > after:
                yield StoredObject(
                    path=path, size_bytes=found[name]["size"], modified_at=_modified_at(found[name])
                )

    @override
    def _put(self, path: str, data: bytes, *, only_new: bool) -> bool:
        try:
            self._files.pipe_file(self._key(path), data, mode="create" if only_new else "overwrite")
        except FileExistsError:
            return False
        except NotImplementedError as error:  # what fsspec raises where a file system has no such mode
            raise ConditionalWriteError(
                f"{self.uri_of(path)}: the file system cannot create it only where it is not ({error})"
            ) from error
        return True

    @override
    def _put_file(self, path: str, source: Path) -> None:
        self._files.put_file(str(source), self._key(path))

    @override
    def _delete(self, path: str) -> None:
        if self._files.exists(self._key(path)):
            self._files.rm_file(self._key(path))

    @property
    def _files(self) -> Any:
        scheme = urlsplit(self._location).scheme
        try:
            # listings that this process kept would hide what others wrote
            return fsspec.filesystem(scheme, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise StorageError(f"{self._location}: {error}") from error

    def _key(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _info(self, path: str) -> dict[str, Any]:
        try:
            info = self._files.info(self._key(path))
        except FileNotFoundError as error:
            raise self._missing(path) from error
        if info["type"] == "directory":
            raise self._missing(path)
        return cast(dict[str, Any], info)

    def _missing(self, path: str) -> ObjectMissingError:
        return ObjectMissingError(f"{self.uri_of(path)}: no such object")


def _modified_at(info: dict[str, Any]) -> float:
    """File systems name it differently; one without it makes an object look new, which keeps it."""
    for name in ("mtime", "updated", "LastModified", "last_modified", "created"):
        value = info.get(name)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return float("inf")

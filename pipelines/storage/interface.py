"""What every storage can do, whoever serves it."""

import abc
import hashlib
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

from typing_extensions import override

from pipelines.errors import RefusalError

TEMPORARY = ".tmp/"
_CHUNK_BYTES = 1 << 20
_READ_AHEAD_BYTES = 1 << 18


class StorageError(RefusalError):
    """A storage operation failed for a reason that the message explains."""


class ObjectMissingError(StorageError):
    """The object asked for does not exist."""


class ConditionalWriteError(StorageError):
    """The storage cannot create an object only where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """One entry of a listing.

    Attributes:
        path: Path relative to the storage's root.
        size_bytes: Size of the object.
        modified_at: Unix time of its last write by the storage's clock, in seconds.
    """

    path: str
    size_bytes: int
    modified_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A multipart upload that was begun and neither completed nor aborted: its parts take space.

    Attributes:
        path: The object that it would become, relative to the storage's root.
        upload_id: The server's name for it.
        started_at: Unix time of its begin by the storage's clock, in seconds.
    """

    path: str
    upload_id: str
    started_at: float


class Storage(abc.ABC):
    """Whole-object reads and writes under one root; picklable, so that Ray tasks can hold one.

    Attributes:
        uri: The root, as `open_storage` takes it.
        single_writer: Whether the user vouched that one driver at a time writes here: `create` then looks
            before it writes, where the storage itself has no conditional write.
    """

    uri: str
    single_writer: bool

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.uri)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    @property
    def single_writer_uri(self) -> str:
        """The same root, for a user who makes sure that one driver at a time writes there."""
        return f"{self.uri}{'&' if '?' in self.uri else '?'}single_writer=true"

    @abc.abstractmethod
    def uri_of(self, path: str) -> str:
        """The full name of an object, for messages and for other programs."""

    @abc.abstractmethod
    def read(self, path: str) -> bytes:
        """The object's bytes; ObjectMissingError when there is none."""

    @abc.abstractmethod
    def open(self, path: str) -> BinaryIO:
        """A seekable reader that fetches only the ranges asked for; the caller closes it."""

    @abc.abstractmethod
    def size(self, path: str) -> int:
        """Bytes in the object; ObjectMissingError when there is none."""

    @abc.abstractmethod
    def fingerprint(self, path: str) -> str:
        """A short text that changes whenever the object's bytes do."""

    @abc.abstractmethod
    def list(self, prefix: str = "", after: str = "") -> Iterator[StoredObject]:
        """Objects whose path starts with `prefix` and sorts after `after`, in the order of their paths."""

    def list_in_parallel(self, prefix: str, cuts: Sequence[str]) -> Iterator[StoredObject]:
        """As `list`; where a server answers page by page, the ranges between these paths at once."""
        return self.list(prefix)

    @abc.abstractmethod
    def _put(self, path: str, data: bytes, *, only_new: bool) -> bool:
        """Put the object; with `only_new` not where there is one, and then give False."""

    def _put_file(self, path: str, source: Path) -> None:
        """Put the bytes of a local file; a storage that can send it piece by piece does."""
        self._put(path, source.read_bytes(), only_new=False)

    @abc.abstractmethod
    def _delete(self, path: str) -> None:
        """Remove the object; no error when there is none."""

    def write(self, path: str, data: bytes) -> None:
        """Put the object, replacing any before it."""
        self._put(checked(path), data, only_new=False)

    def write_file(self, path: str, source: Path) -> None:
        """Put the bytes of a local file, replacing any object before it; files may be larger than memory."""
        self._put_file(checked(path), source)

    def create(self, path: str, data: bytes) -> bool:
        """Put the object only if there is none of that name.

        Returns:
            True when this call made it, False when it was there already. After a lost answer a retry may
            find its own object and say False: compare the bytes before calling it another's.

        Raises:
            ConditionalWriteError: The storage has no such write.
        """
        if not self.single_writer:
            return self._put(checked(path), data, only_new=True)
        if self.exists(path):
            return False
        self.write(path, data)
        return True

    def delete(self, path: str) -> None:
        """Remove the object; no error when there is none."""
        self._delete(checked(path))

    def exists(self, path: str) -> bool:
        """Whether the object is there."""
        try:
            self.size(path)
        except ObjectMissingError:
            return False
        return True

    def sha256(self, path: str) -> str:
        """SHA-256 of the object's bytes, in hexadecimal; reads all of it."""
        with self.open(path) as stream:
            digest = hashlib.sha256()
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def now(self) -> float:
        """Unix time by the storage's own clock, in seconds: what its `modified_at` may be compared with."""
        return time.time()

    def uploads(self) -> Iterator[Upload]:
        """Multipart uploads under the root that are not completed."""
        return iter(())

    def abort(self, upload: Upload) -> None:
        """Drop an upload and its parts; no error when it is gone."""
        raise StorageError(f"{self.uri_of(upload.path)}: no uploads are kept here")

    def retrying_for(self, seconds: float) -> Self:
        """This storage, giving up on a server that does not answer after so many seconds."""
        return self


def checked(path: str) -> str:
    """The path, where it names an object below the root.

    Raises:
        StorageError: It is empty or absolute, or has control characters or a segment "", "." or "..".
    """
    if any(part in ("", ".", "..") for part in path.split("/")) or "\\" in path or not path.isprintable():
        raise StorageError(f"{path!r}: not the name of an object below a folder; it is not written")
    return path


class RangeReader(io.RawIOBase):
    """A seekable view of one object, read by ranges."""

    def __init__(self, read_range: Any, size_bytes: int) -> None:
        """`read_range(start, stop)` gives those bytes."""
        self._read_range, self._size, self._position = read_range, size_bytes, 0

    @classmethod
    def buffered(cls, read_range: Any, size_bytes: int) -> BinaryIO:
        """Such a view that reads somewhat ahead."""
        return io.BufferedReader(cls(read_range, size_bytes), _READ_AHEAD_BYTES)

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._position

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the object reaches."""
        stop = min(self._position + len(buffer), self._size)
        if stop <= self._position:
            return 0
        data = self._read_range(self._position, stop)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

"""Objects under a root URI: a local folder, or a bucket and prefix of an S3 server.

    storage = open_storage("s3://bucket/runs/one")
    storage.create("run.json", data)     # False when another writer was first

Paths are relative to the root and use "/". A write is complete or absent, never partial.
"""

import abc
import hashlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from typing_extensions import override

from pipelines.errors import RefusalError

TEMPORARY = ".tmp/"
_CHUNK_BYTES = 1 << 20


class StorageError(RefusalError):
    """A storage operation failed for a reason that the message explains."""


class ObjectMissingError(StorageError):
    """The object asked for does not exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """One entry of a listing.

    Attributes:
        path: Path relative to the storage's root.
        size_bytes: Size of the object.
        modified_at: Unix time of its last write, in seconds.
    """

    path: str
    size_bytes: int
    modified_at: float


class Storage(abc.ABC):
    """Whole-object reads and writes under one root; picklable, so that Ray tasks can hold one."""

    uri: str

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(self.uri)

    def uri_of(self, path: str) -> str:
        """The full name of an object, for messages and for other programs."""
        return f"{self.uri}/{path}" if path else self.uri

    @abc.abstractmethod
    def read(self, path: str) -> bytes:
        """The object's bytes; ObjectMissingError when there is none."""

    @abc.abstractmethod
    def open(self, path: str) -> BinaryIO:
        """A seekable reader that fetches only the ranges asked for; the caller closes it."""

    @abc.abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Put the object, replacing any before it."""

    @abc.abstractmethod
    def create(self, path: str, data: bytes) -> bool:
        """Put the object only if there is none of that name.

        Returns:
            True when this call made it, False when it was there already. After a lost reply a retry may
            find its own object and say False: compare the bytes before calling it another's.
        """

    @abc.abstractmethod
    def size(self, path: str) -> int:
        """Bytes in the object; ObjectMissingError when there is none."""

    @abc.abstractmethod
    def fingerprint(self, path: str) -> str:
        """A short text that changes whenever the object's bytes do."""

    @abc.abstractmethod
    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Objects whose path starts with `prefix`, in the order of their paths."""

    @abc.abstractmethod
    def delete(self, path: str) -> None:
        """Remove the object; no error when there is none."""

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


def open_storage(uri: str) -> Storage:
    """The storage at a URI: `s3://bucket/prefix`, `file:///folder` or a plain path.

    Raises:
        StorageError: The URI's scheme is not served.
    """
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        from pipelines.storage_s3 import S3Storage  # boto3 takes 0.3 s to import: only where it is used

        return S3Storage(uri)
    if scheme == "file":
        return LocalStorage(unquote(urlsplit(uri).path))
    if scheme and "://" in uri:
        raise StorageError(f"{uri}: no storage for '{scheme}://'; use a folder, file:// or s3://")
    return LocalStorage(uri)


def split_uri(uri: str) -> tuple[Storage, str]:
    """The storage of the folder that holds an object, and the object's name in it."""
    root, _, name = uri.rstrip("/").rpartition("/")
    return open_storage(root or ("/" if uri.startswith("/") else ".")), name


class LocalStorage(Storage):
    """A folder. New objects are written to `.tmp/` beside the others and then renamed or linked."""

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser().absolute()
        self.uri = str(self.root)

    def __repr__(self) -> str:
        return f"LocalStorage({self.uri!r})"

    @override
    def read(self, path: str) -> bytes:
        with self.open(path) as stream:
            return stream.read()

    @override
    def open(self, path: str) -> BinaryIO:
        try:
            return (self.root / path).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ObjectMissingError(f"{self.uri_of(path)}: no such file") from error

    @override
    def write(self, path: str, data: bytes) -> None:
        target = self._prepare(path)
        temporary = self._write_temporary(data)
        temporary.replace(target)
        _sync_folder(target.parent)

    @override
    def create(self, path: str, data: bytes) -> bool:
        target = self._prepare(path)
        if target.exists():
            return False
        temporary = self._write_temporary(data)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            raise StorageError(
                f"{target}: cannot create it as a hard link ({error}); use a folder on a file system "
                "that has hard links, or s3://"
            ) from error
        finally:
            temporary.unlink()
        _sync_folder(target.parent)
        return True

    @override
    def size(self, path: str) -> int:
        file = self.root / path
        if not file.is_file():
            raise ObjectMissingError(f"{file}: no such file")
        return file.stat().st_size

    @override
    def fingerprint(self, path: str) -> str:
        return f"sha256:{self.sha256(path)}"

    @override
    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        folder = self.root / prefix.rpartition("/")[0]
        found = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
        for path in sorted(file.relative_to(self.root).as_posix() for file in found):
            if path.startswith(prefix):
                try:
                    status = (self.root / path).stat()
                except FileNotFoundError:  # deleted or renamed since the walk
                    continue
                yield StoredObject(path=path, size_bytes=status.st_size, modified_at=status.st_mtime)

    @override
    def delete(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)

    def _prepare(self, path: str) -> Path:
        target = self.root / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{target.parent}: cannot make the folder ({error}); choose one you may write to"
            ) from error
        return target

    def _write_temporary(self, data: bytes) -> Path:
        temporary = self._prepare(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StorageError(
                f"{temporary}: cannot write {len(data)} bytes ({error}); free space, or use another folder"
            ) from error
        return temporary


def _sync_folder(folder: Path) -> None:
    """Make a rename or link in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

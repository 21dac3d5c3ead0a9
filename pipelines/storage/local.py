"""Storage in a folder. New objects are written to `.tmp/` beside the others and then renamed or linked."""

import io
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from typing_extensions import override

from pipelines.storage.interface import (
    TEMPORARY,
    ConditionalWriteError,
    ObjectMissingError,
    Storage,
    StorageError,
    StoredObject,
)

_CHUNK_BYTES = 1 << 20


class LocalStorage(Storage):
    """A folder that this machine sees, or that all nodes share."""

    def __init__(self, root: str, *, single_writer: bool = False) -> None:
        self.root = Path(root).expanduser().absolute()
        self.single_writer = single_writer
        self.uri = self.single_writer_uri if single_writer else str(self.root)

    @property
    @override
    def single_writer_uri(self) -> str:
        return f"{self.root.as_uri()}?single_writer=true"

    @override
    def uri_of(self, path: str) -> str:
        return f"{self.root}/{path}" if path else str(self.root)

    @override
    def read(self, path: str) -> bytes:
        with self.open(path) as stream:
            return stream.read()

    @override
    def open(self, path: str) -> BinaryIO:
        try:
            return self._file(path).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise ObjectMissingError(f"{self.uri_of(path)}: no such file") from error

    @override
    def size(self, path: str) -> int:
        file = self._file(path)
        if not file.is_file():
            raise ObjectMissingError(f"{file}: no such file")
        return file.stat().st_size

    @override
    def fingerprint(self, path: str) -> str:
        return f"sha256:{self.sha256(path)}"

    @override
    def list(self, prefix: str = "", after: str = "") -> Iterator[StoredObject]:
        top = self.root / prefix.rpartition("/")[0]
        start = len(f"{self.root}/")
        # strings, not Path objects: a run may have millions of records
        found = (f"{parent}/{name}"[start:] for parent, _, names in os.walk(top) for name in names)
        for path in sorted(path for path in found if path.startswith(prefix) and path > after):
            try:
                status = os.stat(f"{self.root}/{path}")
            except FileNotFoundError:  # deleted or renamed since the walk
                continue
            yield StoredObject(path=path, size_bytes=status.st_size, modified_at=status.st_mtime)

    @override
    def now(self) -> float:
        temporary = self._write_temporary(io.BytesIO())  # a file server's clock need not be this machine's
        try:
            return temporary.stat().st_mtime
        finally:
            temporary.unlink()

    @override
    def _put(self, path: str, data: bytes, *, only_new: bool) -> bool:
        target = self._prepare(path)
        if only_new and target.exists():
            return False
        temporary = self._write_temporary(io.BytesIO(data))
        try:
            if only_new:
                os.link(temporary, target)
            else:
                temporary.replace(target)
        except FileExistsError:
            return False
        except OSError as error:
            raise ConditionalWriteError(
                f"{target}: cannot create it as a hard link ({error}); use a file system that has them, or s3://"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)
        return True

    @override
    def _put_file(self, path: str, source: Path) -> None:
        target = self._prepare(path)
        with source.open("rb") as stream:
            temporary = self._write_temporary(stream)
        try:
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)

    @override
    def _delete(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)

    def _file(self, path: str) -> Path:
        """Where an object is; a name from some input must not lead out of the folder."""
        if ".." in path.split("/") or path.startswith("/"):
            raise StorageError(f"{path!r}: leads out of {self.root}")
        return self.root / path

    def _prepare(self, path: str) -> Path:
        target = self.root / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{target.parent}: cannot make the folder ({error}); choose one you may write to"
            ) from error
        return target

    def _write_temporary(self, source: BinaryIO) -> Path:
        temporary = self._prepare(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            with temporary.open("wb") as stream:
                shutil.copyfileobj(source, stream, _CHUNK_BYTES)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StorageError(
                f"{temporary}: cannot write {source.seek(0, io.SEEK_END)} bytes ({error}); free space, or "
                "use another folder"
            ) from error
        return temporary


def _sync_folder(folder: Path) -> None:
    """Make a rename or link in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

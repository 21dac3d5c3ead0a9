"""Read images from the input of a scoring run, row by row, without looking at the rest of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

import pyarrow as pa
from typing_extensions import override

from pipelines.curation.settings import ScoreConfig
from pipelines.errors import RefusalError
from pipelines.ledger import Ledger
from pipelines.manifest import MANIFEST_PATH, read_entries
from pipelines.plan import Unit
from pipelines.reopening import recorded_config
from pipelines.sources.folders import FolderReader
from pipelines.sources.opening import INDEX
from pipelines.sources.parquet import ParquetReader
from pipelines.sources.tars import TarReader
from pipelines.storage import Storage, StorageError, StoredObject, child, open_storage, split_uri


def source_reader(ledger: Ledger) -> Callable[[Unit], pa.Table]:
    """The reader of a scoring run's input. It trusts that objects are those that were planned.

    It fetches nothing from the web, whatever rows name by now.

    To open the input as a job does would hash all of it first. Whoever reads compares `image_id` instead.

    Raises:
        RefusalError: It is no scoring run, or its input is not where it was.
    """
    config, _ = recorded_config(ScoreConfig, ledger, "score", "weights", ())
    index_uri = child(ledger.storage.uri, INDEX)
    index_storage = open_storage(index_uri)
    parent, name = split_uri(config.input)
    is_file = name.endswith((".tar", ".parquet")) and parent.exists(name)
    storage = parent if is_file else open_storage(config.input)
    first = ledger.planned()[0].path
    if first.startswith("listing-"):
        return FolderReader(storage=storage, index_storage=index_storage, settings=config.source, renamed={})
    if first.endswith(".tar"):
        trusted = _Trusting(storage)
        return TarReader(storage=trusted, index_storage=index_storage, settings=config.source, renamed={})
    if not first.endswith(".parquet"):
        raise RefusalError(f"{config.input}: '{first}' is not an input whose images can be read again")
    entries = [] if is_file or not storage.exists(MANIFEST_PATH) else read_entries(storage)
    has_tars = any(entry.path.endswith(".tar") for entry in entries)
    return ParquetReader(
        storage=storage if has_tars else _Trusting(storage),  # indexes of tars are named for their bytes
        index_uri=index_uri,
        settings=config.source,
        has_tars=has_tars,
        renamed={},
        fetches=False,
    )


class _Trusting(Storage):
    """A storage that is only read, and whose objects are not hashed."""

    def __init__(self, storage: Storage) -> None:
        self.uri, self.single_writer, self._storage = storage.uri, False, storage

    @override
    def fingerprint(self, path: str) -> str:
        return "not looked at"

    @override
    def uri_of(self, path: str) -> str:
        return self._storage.uri_of(path)

    @override
    def read(self, path: str) -> bytes:
        return self._storage.read(path)

    @override
    def open(self, path: str) -> BinaryIO:
        return self._storage.open(path)

    @override
    def size(self, path: str) -> int:
        return self._storage.size(path)

    @override
    def list(self, prefix: str = "", after: str = "") -> Iterator[StoredObject]:
        return self._storage.list(prefix, after)

    @override
    def _put(self, path: str, data: bytes, *, only_new: bool) -> bool:
        raise StorageError(f"{self.uri_of(path)}: the input is only read")

    @override
    def _delete(self, path: str) -> None:
        raise StorageError(f"{self.uri_of(path)}: the input is only read")

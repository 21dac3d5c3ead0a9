"""Parquet inputs: which objects there are, and the rows of a unit."""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.manifest import MANIFEST_PATH, read_entries
from pipelines.plan import InputObject, PlanError, Unit
from pipelines.storage import Storage, StorageError, open_storage, split_uri

_THREADS = 16
_CACHED_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class ParquetInput:
    """A Parquet file, or a folder of them.

    Attributes:
        storage: Where they are.
        objects: The files, sorted by path.
    """

    storage: Storage
    objects: list[InputObject]


def find_parquet(uri: str) -> ParquetInput:
    """The Parquet objects at a URI: a dataset's, by its manifest; all in a folder; or the one file named.

    Files and folders whose names start with "." or "_" are not data.

    Raises:
        PlanError: There are none, or the folder is the output of a run that is not finished.
        StorageError: The storage cannot be read.
    """
    storage, name = split_uri(uri)
    if name.endswith(".parquet") and storage.exists(name):
        return ParquetInput(storage=storage, objects=_described(storage, [name]))
    storage = open_storage(uri)
    if storage.exists(MANIFEST_PATH):
        entries = [entry for entry in read_entries(storage) if entry.path.endswith(".parquet")]
        objects = [InputObject(path=e.path, fingerprint=f"sha256:{e.sha256}", rows=e.rows) for e in entries]
        if not objects:
            raise PlanError(f"{uri}: its manifest names no Parquet data; every row of that job failed")
        return ParquetInput(storage=storage, objects=objects)
    if storage.exists("run.json"):
        raise PlanError(
            f"{uri}: the output of a run that has not finished; finish it first, by starting it again"
        )
    names = [entry.path for entry in storage.list() if _is_data(entry.path)]
    if not names:
        raise PlanError(
            f"{uri}: no Parquet files; name a folder that holds some, or one file ending in .parquet"
        )
    return ParquetInput(storage=storage, objects=_described(storage, sorted(names)))


def read_unit(storage: Storage, unit: Unit, columns: Sequence[str] | None = None) -> pa.Table:
    """The unit's rows of its Parquet object, in order.

    Args:
        storage: The input's storage.
        unit: Which rows.
        columns: Columns to read; None for all.

    Raises:
        StorageError: The object cannot be read, or no longer has the rows that were planned.
    """
    names = None if columns is None else tuple(columns)
    file = _open_parquet(storage, unit.path, unit.fingerprint)
    numbers = unit.row_numbers
    pieces, group_start = [], 0
    for group in range(file.num_row_groups):
        group_stop = group_start + file.metadata.row_group(group).num_rows
        wanted = [n - group_start for n in numbers if group_start <= n < group_stop]
        if wanted:
            rows = _read_group(storage, unit.path, unit.fingerprint, group, names)
            whole = wanted[-1] - wanted[0] + 1 == len(wanted)
            pieces.append(rows.slice(wanted[0], len(wanted)) if whole else rows.take(wanted))
        group_start = group_stop
    if sum(piece.num_rows for piece in pieces) != unit.num_rows:
        raise StorageError(
            f"{storage.uri_of(unit.path)}: {group_start} rows, but rows {unit.row_start} to {unit.row_stop} "
            "were planned; the input changed: restore it, or start a new output folder"
        )
    return pa.concat_tables(pieces)


def _is_data(path: str) -> bool:
    return path.endswith(".parquet") and not any(part.startswith((".", "_")) for part in path.split("/"))


def _described(storage: Storage, names: Sequence[str]) -> list[InputObject]:
    def describe(name: str) -> InputObject:
        with storage.open(name) as stream:
            try:
                rows = pq.read_metadata(stream).num_rows
            except pa.ArrowInvalid as error:
                raise PlanError(
                    f"{storage.uri_of(name)}: not a Parquet file ({error}); remove or replace it"
                ) from error
        return InputObject(path=name, fingerprint=storage.fingerprint(name), rows=rows)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(describe, names))


@functools.lru_cache(maxsize=4)
def _open_parquet(storage: Storage, path: str, fingerprint: str) -> pq.ParquetFile:
    found = storage.fingerprint(path)
    # a manifest's fingerprints are hashes, also where the storage itself tells entity tags
    if found.partition(":")[0] == fingerprint.partition(":")[0] and found != fingerprint:
        raise StorageError(
            f"{storage.uri_of(path)}: it changed since the job was planned; "
            "restore it, or start a new output folder"
        )
    return pq.ParquetFile(storage.open(path), pre_buffer=True)


# The row group that this process decoded last. Tables often come as one row group of a million rows:
# without this every unit would decode all of it again.
_last_group: dict[Any, pa.Table] = {}


def _read_group(
    storage: Storage, path: str, fingerprint: str, group: int, columns: tuple[str, ...] | None
) -> pa.Table:
    key = (storage, path, fingerprint, group, columns)
    rows = _last_group.get(key)
    if rows is None:
        rows = _open_parquet(storage, path, fingerprint).read_row_group(group, columns=columns)
        _last_group.clear()
        if rows.nbytes <= _CACHED_BYTES:
            _last_group[key] = rows
    return rows

"""Parquet inputs: which objects there are, and the rows of a unit."""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.manifest import MANIFEST_PATH, read_entries
from pipelines.plan import InputObject, PlanError, Unit
from pipelines.storage import Storage, StorageError, open_storage, split_uri

MAX_GROUP_BYTES = 4 << 30
"""Of a decoded row group. A reading task holds a whole one, and a node reads several at once; writers make
row groups of 0.1 to 1 GiB."""
MAX_COLUMNS = 10_000
"""A row group has a record for each of them, and so has each of its readers."""
_METADATA_LIMITS = {
    "thrift_string_size_limit": 16 << 20,  # the longest text is the Arrow schema, some MB for 10 000 columns
    "thrift_container_size_limit": 100_000,  # the longest list is that of row groups
    "schema_depth_limit": 32,
}
_VALUE_BYTES = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}
"""Of a decoded value, at least: runs of equal ones take next to nothing in the file."""
_STREAMED_BYTES = 1 << 20
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

    def located(self, ordinals: Iterable[int]) -> Iterator[tuple[InputObject, list[int], list[int]]]:
        """Where rows are that are known by their place among all rows.

        Yields:
            Of each object that holds some: the object, their numbers in it, ascending, and their ordinals.
        """
        wanted = np.array(sorted(set(ordinals)), np.int64)
        starts = np.cumsum([0, *(item.rows for item in self.objects)])
        places = np.searchsorted(starts, wanted, side="right") - 1
        for place in np.unique(places).tolist():
            own = wanted[places == place]
            yield self.objects[place], (own - starts[place]).tolist(), own.tolist()


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


def read_batches(
    found: ParquetInput, columns: Sequence[str], batch_rows: int = 65_536
) -> Iterator[pa.RecordBatch]:
    """These columns of all rows in order, some rows at a time; many small objects are read at once."""

    def read(item: InputObject) -> Iterator[pa.RecordBatch]:
        with found.storage.open(item.path) as stream:
            file = open_parquet(stream, found.storage.uri_of(item.path))
            yield from file.iter_batches(batch_rows, columns=list(columns))

    with ThreadPoolExecutor(_THREADS) as pool:
        ahead: deque[Future[list[pa.RecordBatch]] | InputObject] = deque()
        for item in found.objects:
            ahead.append(item if item.rows > batch_rows else pool.submit(lambda one: list(read(one)), item))
            if len(ahead) > _THREADS:
                yield from _batches(ahead.popleft(), read)
        while ahead:
            yield from _batches(ahead.popleft(), read)


def _batches(
    one: Future[list[pa.RecordBatch]] | InputObject, read: Callable[[InputObject], Iterator[pa.RecordBatch]]
) -> Iterator[pa.RecordBatch]:
    return read(one) if isinstance(one, InputObject) else iter(one.result())


def schema_of(found: ParquetInput) -> pa.Schema:
    """The columns of the first object, and so of all where one job has made them."""
    first = found.objects[0].path
    with found.storage.open(first) as stream:
        return open_parquet(stream, found.storage.uri_of(first)).schema_arrow


def open_parquet(stream: BinaryIO, where: str, *, whole_groups: bool = True) -> pq.ParquetFile:
    """A Parquet file whose metadata asks for nothing out of proportion, before anything of it is decoded.

    What the metadata declares is bounded, not what the pages hold in the end: a text that a dictionary
    repeats counts once. Metadata of single column chunks is left alone: where it is damaged, pyarrow ends
    the process instead of raising an error.

    Args:
        stream: The file.
        where: What it is called in errors.
        whole_groups: Whether to fetch all of a row group's columns that are read at once. For few rows of a
            large row group, bit by bit takes less memory.

    Raises:
        PlanError: It is not Parquet; its counts contradict each other; it has too many columns, or too large
            a row group.
    """
    try:
        buffer_size = 0 if whole_groups else _STREAMED_BYTES
        file = pq.ParquetFile(stream, pre_buffer=whole_groups, buffer_size=buffer_size, **_METADATA_LIMITS)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{where}: not a Parquet file ({_one_line(error)}); remove or replace it") from error
    metadata = file.metadata
    if metadata.num_columns > MAX_COLUMNS:
        raise PlanError(
            f"{where}: {metadata.num_columns} columns; the limit is {MAX_COLUMNS}: write fewer into the file"
        )
    columns = [metadata.schema.column(number) for number in range(metadata.num_columns)]
    row_bytes = sum(
        _VALUE_BYTES.get(column.physical_type, column.length)
        for column in columns
        if column.max_repetition_level == 0  # how many values a list has is not in the metadata
    )
    num_rows = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        num_rows += group.num_rows
        if min(group.num_rows, group.total_byte_size) < 0 or group.num_columns != len(columns):
            raise PlanError(f"{where}: row group {number}: impossible counts; replace the damaged file")
        decoded_bytes = max(group.total_byte_size, group.num_rows * row_bytes)
        if decoded_bytes > MAX_GROUP_BYTES:
            raise PlanError(
                f"{where}: row group {number}: at least {decoded_bytes} bytes when decoded; the limit is "
                f"{MAX_GROUP_BYTES}: write the file again with fewer rows a group (row_group_size)"
            )
    if num_rows != metadata.num_rows:
        raise PlanError(
            f"{where}: {metadata.num_rows} rows, but {num_rows} in its row groups; replace the damaged file"
        )
    return file


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _is_data(path: str) -> bool:
    return path.endswith(".parquet") and not any(part.startswith((".", "_")) for part in path.split("/"))


def _described(storage: Storage, names: Sequence[str]) -> list[InputObject]:
    def describe(name: str) -> InputObject:
        with storage.open(name) as stream:
            rows = open_parquet(stream, storage.uri_of(name)).metadata.num_rows
        return InputObject(path=name, fingerprint=storage.fingerprint(name), rows=rows)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(describe, names))


@functools.lru_cache(maxsize=8)
def check_unchanged(storage: Storage, path: str, fingerprint: str) -> None:
    """That an object is the one that was planned; once a process, as hashes of files take long.

    Raises:
        StorageError: It is another.
    """
    found = storage.fingerprint(path)
    # a manifest's fingerprints are hashes, also where the storage itself tells entity tags
    if found.partition(":")[0] == fingerprint.partition(":")[0] and found != fingerprint:
        raise StorageError(
            f"{storage.uri_of(path)}: it changed since the job was planned; "
            "restore it, or start a new output folder"
        )


@functools.lru_cache(maxsize=4)
def _open_parquet(storage: Storage, path: str, fingerprint: str) -> pq.ParquetFile:
    check_unchanged(storage, path, fingerprint)
    return open_parquet(storage.open(path), storage.uri_of(path))


# The row group that this process decoded last. Tables often come as one row group of a million rows:
# without this every unit would decode all of it again.
_last_group: dict[Any, pa.Table] = {}


def _read_group(
    storage: Storage, path: str, fingerprint: str, group: int, columns: tuple[str, ...] | None
) -> pa.Table:
    key = (storage, path, fingerprint, group, columns)
    rows = _last_group.get(key)
    if rows is None:
        file = _open_parquet(storage, path, fingerprint)
        try:
            rows = file.read_row_group(group, columns=columns)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise StorageError(
                f"{storage.uri_of(path)}: row group {group} cannot be decoded ({_one_line(error)}); "
                "replace the file"
            ) from error
        _last_group.clear()
        if rows.nbytes <= _CACHED_BYTES:
            _last_group[key] = rows
    return rows

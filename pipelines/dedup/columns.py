"""The columns of scores that duplicates are told by, read in pieces by tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.errors import RefusalError
from pipelines.inputs import ParquetInput, find_parquet, open_parquet
from pipelines.plan import InputObject
from pipelines.storage import Storage

ROW_ID, ROW, DATASET, KEY = "row_id", "row", "dataset", "key"
_THREADS = 8


class DedupError(RefusalError):
    """Scores in which duplicates cannot be looked for; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some objects of a dataset of scores, to be read by one task.

    Attributes:
        storage: Where they are.
        objects: The objects.
        dataset: 0 for the dataset itself; the others are those that it is compared with.
        first: Number of the first row; rows are counted over all datasets.
    """

    storage: Storage
    objects: tuple[InputObject, ...]
    dataset: int
    first: int

    @property
    def num_rows(self) -> int:
        """Rows of all objects."""
        return sum(item.rows for item in self.objects)


def pieces_of(found: ParquetInput, dataset: int, first: int, piece_rows: int) -> list[Piece]:
    """The dataset in pieces of about that many rows; a pure function of its manifest."""
    pieces: list[Piece] = []
    objects: list[InputObject] = []
    for number, item in enumerate(found.objects):
        objects.append(item)
        if sum(one.rows for one in objects) >= piece_rows or number == len(found.objects) - 1:
            piece = Piece(storage=found.storage, objects=tuple(objects), dataset=dataset, first=first)
            pieces.append(piece)
            objects, first = [], first + piece.num_rows
    return pieces


def is_hash(column: pa.DataType) -> bool:
    """Whether this is the type of perceptual hashes."""
    return bool(pa.types.is_uint64(column))


def is_embedding(column: pa.DataType) -> bool:
    """Whether this is the type of embeddings."""
    return bool(
        (pa.types.is_list(column) or pa.types.is_fixed_size_list(column))
        and pa.types.is_floating(column.value_type)
    )


def open_scores(uri: str, columns: Mapping[str, Callable[[pa.DataType], bool]]) -> ParquetInput:
    """A dataset of scores that has these columns.

    Args:
        uri: The dataset.
        columns: Which types each may have.

    Raises:
        DedupError: It has not.
    """
    found = find_parquet(uri)
    path = found.objects[0].path
    with found.storage.open(path) as stream:
        schema = open_parquet(stream, found.storage.uri_of(path)).schema_arrow
    for name, fits in columns.items():
        if name not in schema.names:
            raise DedupError(
                f"{uri}: no column '{name}'; columns are {', '.join(schema.names)}; "
                "run `python -m jobs score` on the dataset with the scorer that adds it"
            )
        if not fits(column := schema.field(name).type):
            raise DedupError(f"{uri}: column '{name}' is {column}, which is not what its scorer writes")
    return found


def embedding_width(found: ParquetInput, column: str) -> int | None:
    """Values of an embedding, by the first row that has one in the first object; None where none has."""
    item = found.objects[0]
    with found.storage.open(item.path) as stream:
        for batch in open_parquet(stream, found.storage.uri_of(item.path)).iter_batches(
            1024, columns=[column]
        ):
            if len(values := batch.column(0).drop_null()):
                return len(values[0].values)
    return None


def read_rows(piece: Piece, column: str, only: NDArray[np.int64] | None = None) -> pa.Table:
    """Rows of a piece in order: their ids, numbers and datasets, and as KEY the column, where it is not null.

    Args:
        piece: What to read.
        column: The column.
        only: Numbers of the rows wanted, in order; None for all.

    Raises:
        DedupError: An object has not the rows that the manifest says.
    """
    starts = piece.first + np.cumsum([0, *(item.rows for item in piece.objects)])
    spans = list(zip(piece.objects, starts[:-1].tolist(), starts[1:].tolist(), strict=True))

    def read(span: tuple[InputObject, int, int]) -> pa.Table | None:
        item, start, stop = span
        numbers = np.arange(start, stop)
        if only is not None:
            numbers = only[np.searchsorted(only, start) : np.searchsorted(only, stop)]
            if not len(numbers):
                return None
        where = piece.storage.uri_of(item.path)
        with piece.storage.open(item.path) as stream:
            rows = open_parquet(stream, where).read(columns=[ROW_ID, column])
        if rows.num_rows != item.rows:
            raise DedupError(f"{where}: {rows.num_rows} rows, but the manifest says {item.rows}; restore it")
        rows = rows if only is None else rows.take(numbers - start)
        datasets = np.full(len(numbers), piece.dataset, np.int32)
        table = pa.table({ROW_ID: rows[ROW_ID], ROW: numbers, DATASET: datasets, KEY: rows[column]})
        return table.filter(table[KEY].is_valid()) if table[KEY].null_count else table

    with ThreadPoolExecutor(_THREADS) as pool:
        tables = [table for table in pool.map(read, spans) if table is not None]
    return pa.concat_tables(tables).combine_chunks()


def embeddings_of(column: pa.ChunkedArray) -> NDArray[np.float16]:
    """[N, D], from lists."""
    if not len(column):
        return np.zeros((0, 0), np.float16)
    flat = pa.concat_arrays(column.chunks).flatten().to_numpy(zero_copy_only=False).astype(np.float16)
    embeddings: NDArray[np.float16] = flat.reshape(len(column), -1)
    return embeddings

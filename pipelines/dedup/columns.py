"""The columns of scores that duplicates are told by, read in pieces by tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.errors import RefusalError
from pipelines.inputs import ParquetInput, find_parquet
from pipelines.storage import Storage


class DedupError(RefusalError):
    """Scores in which duplicates cannot be looked for; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some objects of a dataset of scores, to be read by one task.

    Attributes:
        storage: Where they are.
        paths: Of the objects.
        first: Number of their first row within the dataset.
        rows: Of all of them.
    """

    storage: Storage
    paths: tuple[str, ...]
    first: int
    rows: int


def pieces_of(found: ParquetInput, piece_rows: int) -> list[Piece]:
    """The dataset in pieces of about that many rows; a pure function of the dataset."""
    pieces: list[Piece] = []
    paths: list[str] = []
    first = rows = 0
    for item in found.objects:
        paths.append(item.path)
        rows += item.rows
        if rows >= piece_rows:
            pieces.append(Piece(storage=found.storage, paths=tuple(paths), first=first, rows=rows))
            paths, first, rows = [], first + rows, 0
    if paths:
        pieces.append(Piece(storage=found.storage, paths=tuple(paths), first=first, rows=rows))
    return pieces


def open_scores(uri: str, columns: Sequence[str]) -> ParquetInput:
    """A dataset of scores that has these columns.

    Raises:
        DedupError: It has not.
    """
    found = find_parquet(uri)
    with found.storage.open(found.objects[0].path) as stream:
        names = pq.ParquetFile(stream).schema_arrow.names
    if missing := [name for name in columns if name not in names]:
        raise DedupError(
            f"{uri}: no column '{missing[0]}'; columns are {', '.join(names)}; "
            "run `python -m jobs score` on the dataset with the scorer that adds it"
        )
    return found


def read_piece(piece: Piece, columns: Sequence[str]) -> pa.Table:
    """These columns of a piece."""
    tables = []
    for path in piece.paths:
        with piece.storage.open(path) as stream:
            tables.append(pq.read_table(stream, columns=list(columns)))
    return pa.concat_tables(tables)


def embeddings_of(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """[N, D] float32 of length one, from lists of float16."""
    values = pa.chunked_array(column).combine_chunks()
    flat = values.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    embeddings: NDArray[np.float32] = flat.reshape(len(values), -1)
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)

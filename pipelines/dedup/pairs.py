"""Write pairs of duplicates, in files of bounded size that depend on the pairs alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.shards import parquet_bytes
from pipelines.storage import Storage
from schemas.duplicates import PAIRS
from schemas.manifest import ObjectEntry

FILE_ROWS = 500_000


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where pairs go.

    Attributes:
        storage: The output.
        against: URIs of the other datasets; dataset 1 is the first of them.
    """

    storage: Storage
    against: tuple[str, ...]


class PairWriter:
    """Collects pairs of one kind and writes `pairs/KIND-PART-NUMBER.parquet` whenever there are enough.

    Args:
        target: Where to.
        kind: "exact", "near" or "semantic".
        part: Of the search; no two writers have the same.
        file_rows: Pairs a file.
    """

    def __init__(self, target: Target, kind: str, part: int, file_rows: int = FILE_ROWS) -> None:
        self._target, self._kind, self._part, self._file_rows = target, kind, part, file_rows
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0
        self._entries: list[ObjectEntry] = []

    def add(self, a: pa.Array, b: pa.Array, datasets: NDArray[np.int32], distances: NDArray[Any]) -> None:
        """Add pairs.

        Args:
            a: Row ids in the dataset.
            b: Row ids, in it or in another.
            datasets: Those of `b`.
            distances: Of the pairs.
        """
        names = pa.array([None, *self._target.against], pa.string())
        turned = pc.and_(pc.greater(a, b), pa.array(datasets == 0))
        columns = {
            "kind": pa.array([self._kind], pa.string()).take(pa.array(np.zeros(len(a), np.int64))),
            "a": pc.if_else(turned, b, a).cast(pa.string()),
            "b": pc.if_else(turned, a, b).cast(pa.string()),
            "against": names.take(pa.array(datasets)),
            "distance": pa.array(distances.astype(np.float32)),
        }
        self._waiting.append(pa.table(columns, schema=PAIRS))
        self._num_waiting += len(a)
        while self._num_waiting >= self._file_rows:
            self._write()

    def end(self) -> list[ObjectEntry]:
        """Write what is left; gives all files."""
        if self._num_waiting:
            self._write()
        return self._entries

    def _write(self) -> None:
        waiting = pa.concat_tables(self._waiting)
        pairs = waiting.slice(0, self._file_rows)
        self._waiting = [waiting.slice(self._file_rows)]
        self._num_waiting -= pairs.num_rows
        path = f"pairs/{self._kind}-{self._part:05d}-{len(self._entries):05d}.parquet"
        data = parquet_bytes(pairs)
        self._target.storage.write(path, data)
        self._entries.append(ObjectEntry.of(path, data, pairs.num_rows))

"""The encoded image of one row: from its shard, from what lies beside it, or from the input of scoring.

A row says which image is its own, never where on this machine or on the network to look: a path in it is
taken only where it names a file of the row's own shard.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.decoding import ImageError
from pipelines.generated_images import ImagesBeside
from pipelines.images import image_id
from pipelines.inputs import open_parquet
from pipelines.plan import Unit
from pipelines.storage import StorageError
from pipelines.viewing.outputs import Output
from pipelines.viewing.rows import Place
from pipelines.web import is_url

_BATCH_ROWS = 256
_CACHED_BYTES = 256 << 20
_LOCKS = 16
_READING = 4
"""Batches that are read at once: each may take some hundred MB."""


class NoImageError(Exception):
    """A row whose image cannot be shown; the message says why."""


class RowImagesReader:
    """Reads images of rows, in many threads at once."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._storage = output.ledger.storage
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._batches: OrderedDict[tuple[str, int], pa.Array] = OrderedDict()
        self._batches_lock, self._reading = threading.Lock(), threading.Semaphore(_READING)
        self._beside = ImagesBeside(self._storage)

    def read(self, place: Place, row: dict[str, Any]) -> bytes:
        """The encoded image.

        Args:
            place: Of the row.
            row: Its columns; of scores without kept images these say where the image is in the input.

        Raises:
            NoImageError: There is none, or it cannot be read.
        """
        try:
            if not self._output.keeps_images:
                return self._from_source(row)
            image = self._column(place)
            if image is None:
                raise NoImageError("the row has no image")
            if image["bytes"]:
                return bytes(image["bytes"])
            return self._beside.read(place.path, image["path"] or "")
        except (ImageError, StorageError, OSError, pa.ArrowException) as error:
            raise NoImageError(" ".join(str(error).split())) from error

    def _column(self, place: Place) -> dict[str, Any] | None:
        """The value of the column `image`; neighbouring rows are kept, as pages ask for these next."""
        number = place.number // _BATCH_ROWS
        key = (place.path, number)
        with self._locks[hash(key) % _LOCKS]:  # those who ask for the same rows wait, and read them once
            with self._batches_lock:
                rows = self._batches.get(key)
            if rows is None:
                with self._reading:
                    rows = self._read_batch(place.path, number)
                self._keep(key, rows)
        return rows[place.number - number * _BATCH_ROWS].as_py()

    def _read_batch(self, path: str, number: int) -> pa.Array:
        with self._storage.open(path) as stream:
            file = open_parquet(stream, self._storage.uri_of(path), whole_groups=False)
            if "image" not in file.schema_arrow.names:
                raise NoImageError("the output has no images")
            wanted, start = number * _BATCH_ROWS, 0
            pieces = []
            for group in range(file.num_row_groups):
                stop = start + file.metadata.row_group(group).num_rows
                if start < wanted + _BATCH_ROWS and wanted < stop:
                    at = start
                    for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=["image"]):
                        low, high = max(wanted - at, 0), min(wanted + _BATCH_ROWS - at, batch.num_rows)
                        if low < high:
                            pieces.append(batch.column(0).slice(low, high - low))
                        at += batch.num_rows
                        if at >= wanted + _BATCH_ROWS:
                            break
                start = stop
        return pa.concat_arrays(pieces)

    def _keep(self, key: tuple[str, int], rows: pa.Array) -> None:
        with self._batches_lock:
            self._batches[key] = rows
            while sum(r.nbytes for r in self._batches.values()) > _CACHED_BYTES and len(self._batches) > 1:
                self._batches.popitem(last=False)

    def _from_source(self, row: dict[str, Any]) -> bytes:
        path, number, image_path = row["source_path"], row["source_row"], row.get("image_path") or ""
        if is_url(image_path):
            raise NoImageError(
                "the image is on the web, and viewing fetches nothing: score with `keep` to have it"
            )
        fingerprint = self._fingerprints.get(path)
        if fingerprint is None:
            raise NoImageError("the row is of an object that the job did not read")
        unit = Unit.of_rows(path, fingerprint, [number])
        with self._locks[hash(path) % _LOCKS]:  # readers keep an open file of each object
            rows = self._read_source(unit)
        data = rows["encoded"][0].as_py()
        if data is None:
            raise NoImageError(rows["fault_message"][0].as_py() or "the input has no image for this row")
        if image_id(data) != row["image_id"]:
            raise NoImageError("the input has another image there by now")
        return bytes(data)

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        table = self._output.ledger.planned().table
        paths, prints = (pc.cast(table[name], pa.string()).to_pylist() for name in ("path", "fingerprint"))
        return dict(zip(paths, prints, strict=True))

    @cached_property
    def _read_source(self) -> Callable[[Unit], pa.Table]:
        from pipelines.curation.trusted_source import source_reader  # imports what curation reads with

        return source_reader(self._output.ledger)

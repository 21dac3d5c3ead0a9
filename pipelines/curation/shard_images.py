"""The images of a shard's rows: those that scoring kept, or the source's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.curation.settings import KeptImages
from pipelines.inputs import read_unit
from pipelines.plan import Unit
from pipelines.shard_cuts import sample_keys
from pipelines.sources.faults import FAULT_NAMES
from pipelines.storage import Storage

ENCODED = pa.field("encoded", pa.large_binary())


@dataclass(frozen=True, kw_only=True)
class ReadImages:
    """Reads the rows of a shard with their images: those that scoring kept, or the source's own.

    Attributes:
        shard_plan: Where the rows of each shard are.
        scores: The scores.
        kept: Which images scoring has kept.
        read_source: Reads rows of the source.
    """

    shard_plan: Storage
    scores: Storage
    kept: KeptImages
    read_source: Callable[[Unit], pa.Table]

    def __call__(self, unit: Unit) -> pa.Table:
        """The rows in the plan, their new `key`, `encoded` and why an image could not be read."""
        rows = read_unit(self.shard_plan, unit)
        images = (
            source_images(rows, self.read_source) if self.kept == "none" else kept_images(rows, self.scores)
        )
        names = rows.column_names
        rows = rows.rename_columns(["original_key" if name == "key" else name for name in names])
        rows = rows.append_column("key", pa.array(sample_keys(unit), pa.string()))
        for name in images.column_names:
            rows = rows.append_column(name, images[name])
        return rows


def kept_images(rows: pa.Table, scores: Storage) -> pa.Table:
    """The images that scoring has kept of some rows of scores: `encoded`, and no fault."""
    pieces = []
    for run in _runs(rows, "scores"):
        images = read_unit(scores, run, ["image"])["image"].combine_chunks()
        pieces.append(pc.struct_field(images, "bytes").cast(ENCODED.type))
    nothing = pa.nulls(rows.num_rows, pa.string())
    return pa.table({ENCODED.name: pa.chunked_array(pieces)} | dict.fromkeys(FAULT_NAMES, nothing))


def source_images(rows: pa.Table, read_source: Callable[[Unit], pa.Table]) -> pa.Table:
    """The images of some rows of scores as the source has them: `encoded`, and why one could not be read."""
    found = [read_source(run) for run in _runs(rows, "source")]
    return pa.concat_tables(table.select([ENCODED.name, *FAULT_NAMES]) for table in found)


def _runs(rows: pa.Table, of: Literal["scores", "source"]) -> Iterator[Unit]:
    """Neighbouring rows of one object whose numbers ascend, as a unit's do."""
    paths, fingerprints, numbers = (
        rows[f"{of}_{name}"].to_pylist() for name in ("path", "fingerprint", "row")
    )
    start = 0
    for stop in range(1, rows.num_rows + 1):
        if stop == rows.num_rows or paths[stop] != paths[start] or numbers[stop] <= numbers[stop - 1]:
            yield Unit.of_rows(paths[start], fingerprints[start], numbers[start:stop])
            start = stop

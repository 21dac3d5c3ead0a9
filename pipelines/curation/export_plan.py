"""Cut a selection into shards: for each shard a Parquet file with the rows that go into it."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import RefusalError
from pipelines.inputs import find_parquet, open_parquet, read_batches
from pipelines.ledger import Ledger
from pipelines.plan import InputObject
from pipelines.scorers.settings import EMBEDDING
from pipelines.shard_cuts import ShardCuts, write_shards
from pipelines.storage import Storage

_PLACE = [
    pa.field("scores_path", pa.string()),  # where the row of scores is, and with it a kept image
    pa.field("scores_fingerprint", pa.string()),
    pa.field("scores_row", pa.int64()),
    pa.field("source_fingerprint", pa.string()),
]
PLACE_NAMES = [field.name for field in _PLACE]


class ExportError(RefusalError):
    """A selection that cannot be exported; the message says why."""


def write_shard_plan(
    scores_uri: str, selection_uri: str, folder: Storage, cuts: ShardCuts
) -> list[InputObject]:
    """Write the rows of each shard, in the order of the input; one shard's are in memory at a time.

    Args:
        scores_uri: The scores that were selected from.
        selection_uri: The selection.
        folder: Where the files go; they are named by their content.
        cuts: When a shard is full.

    Raises:
        ExportError: The selection keeps nothing, or is of other scores.
    """
    objects = write_shards(_kept(scores_uri, selection_uri), folder, cuts)
    if not objects:
        raise ExportError(f"{selection_uri}: it keeps no image; loosen the rule that its funnel.json names")
    return objects


def _kept(scores_uri: str, selection_uri: str) -> Iterator[pa.Table]:
    """The rows of scores that the selection keeps, object by object."""
    scores = find_parquet(scores_uri)
    fingerprints = {unit.path: unit.fingerprint for unit in Ledger.load(scores_uri).planned()}
    decisions = _Decisions(selection_uri)
    for item in scores.objects:
        with scores.storage.open(item.path) as stream:
            file = open_parquet(stream, scores.storage.uri_of(item.path))
            left_out = [f.name for f in file.schema_arrow if f.name == "image" or f.type == EMBEDDING]
            names = [name for name in file.schema_arrow.names if name not in left_out]
            rows = file.read(columns=names)
        kept = decisions.take(rows["row_id"])
        yield with_places(rows, item, fingerprints).filter(kept)


def with_places(rows: pa.Table, scores: InputObject, fingerprints: dict[str, str]) -> pa.Table:
    """All rows of an object of scores with where they are, and the fingerprint of their source object.

    Args:
        rows: With `source_path`.
        scores: The object that they are.
        fingerprints: Of the source's objects, by path.
    """
    places = [
        pa.array([scores.path] * rows.num_rows, pa.string()),
        pa.array([scores.fingerprint] * rows.num_rows, pa.string()),
        pa.array(range(rows.num_rows), pa.int64()),
        pa.array([fingerprints[path] for path in rows["source_path"].to_pylist()], pa.string()),
    ]
    for field, values in zip(_PLACE, places, strict=True):
        rows = rows.append_column(field, values)
    return rows


class _Decisions:
    """The decisions of a selection, read along with the scores, whose order they have."""

    def __init__(self, uri: str) -> None:
        self._uri, self._found = uri, find_parquet(uri)
        self._tables = self._read()
        self._rows: pa.Table | None = None

    def take(self, row_ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """Whether each of the next rows of scores is kept."""
        while self._rows is None or self._rows.num_rows < len(row_ids):
            more = next(self._tables, None)
            if more is None:
                raise ExportError(
                    f"{self._uri}: has no decision for some images of these scores; select again"
                )
            self._rows = more if self._rows is None else pa.concat_tables([self._rows, more])
        rows, self._rows = self._rows.slice(0, len(row_ids)), self._rows.slice(len(row_ids))
        if rows["row_id"].to_pylist() != row_ids.to_pylist():
            raise ExportError(f"{self._uri}: its decisions are of other scores; select again")
        return rows["kept"]

    def _read(self) -> Iterator[pa.Table]:
        for batch in read_batches(self._found, ["row_id", "image_id", "kept"]):
            rows = pa.table(batch)
            yield rows.filter(pc.is_valid(rows["image_id"]))  # dead letters have no scores

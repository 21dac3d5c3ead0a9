"""Small pictures of a few rows of scores: only their own images are read, from where they lie."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import pyarrow as pa

from pipelines.curation.export_plan import with_places
from pipelines.curation.shard_images import ENCODED, kept_images, source_images
from pipelines.curation.trusted_source import source_reader
from pipelines.errors import RefusalError
from pipelines.images import image_id
from pipelines.inputs import ParquetInput, open_parquet
from pipelines.ledger import Ledger
from pipelines.pages.thumbnails import thumbnail
from pipelines.plan import Unit
from pipelines.web import is_url

SIDE = 168
"""Pixels of the longer side of a picture."""
_COLUMNS = ("row_id", "image_id", "source_path", "source_row", "image_path")


@dataclass(frozen=True, kw_only=True)
class CuratedImages:
    """Pictures of rows of scores.

    Attributes:
        pictures: Data URIs by the row's ordinal; "" where the image cannot be had any more.
        faults: Why some could not be read, each reason once.
    """

    pictures: dict[int, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def curated_images(ledger: Ledger, scores: ParquetInput, ordinals: Collection[int]) -> CuratedImages:
    """Read and shrink the images of some rows; never asks the web for one.

    Args:
        ledger: Of the scoring run.
        scores: Its objects.
        ordinals: Places of the rows in them.
    """
    found = CuratedImages()
    fingerprints = {unit.path: unit.fingerprint for unit in ledger.planned()}
    read = _Reader(ledger, scores)
    for item, numbers, wanted in scores.located(ordinals):
        with scores.storage.open(item.path) as stream:
            file = open_parquet(stream, scores.storage.uri_of(item.path))
            rows = file.read(columns=[name for name in _COLUMNS if name in file.schema_arrow.names])
        rows = with_places(rows, item, fingerprints).take(pa.array(numbers))
        try:
            images = read(rows)
        except RefusalError as error:
            images = [None] * len(wanted)
            _note(found, str(error))
        found.pictures.update({o: thumbnail(data, SIDE) for o, data in zip(wanted, images, strict=True)})
    if read.on_the_web:
        _note(found, f"{read.on_the_web:,} images are on the web: a report does not fetch them again")
    if read.changed:
        _note(found, f"{read.changed:,} images of the input are not those that were scored")
    if read.gone:
        _note(found, f"{read.gone:,} images are not in the input any more, such as: {read.why_gone}")
    return found


class _Reader:
    """Reads the images of rows with places: those that scoring kept, or the source's own.

    Attributes:
        on_the_web: Images that were not asked for.
        changed: Images of the source that are others by now.
        gone: Images that the source does not have any more.
        why_gone: What was wrong with the first of them.
    """

    def __init__(self, ledger: Ledger, scores: ParquetInput) -> None:
        self._ledger, self._scores = ledger, scores
        self._source: Callable[[Unit], pa.Table] | RefusalError | None = None
        self.on_the_web = self.changed = self.gone = 0
        self.why_gone = ""

    def __call__(self, rows: pa.Table) -> list[bytes | None]:
        if self._ledger.spec.config["keep"] != "none":
            return _bytes_of(kept_images(rows, self._scores.storage))
        images: list[bytes | None] = [None] * rows.num_rows
        here = list(range(rows.num_rows))
        if "image_path" in rows.column_names:
            here = [n for n, path in enumerate(rows["image_path"].to_pylist()) if not is_url(path or "")]
        self.on_the_web += rows.num_rows - len(here)
        if here:
            for number, data in zip(here, self._from_source(rows.take(pa.array(here))), strict=True):
                images[number] = data
        return images

    def _from_source(self, rows: pa.Table) -> list[bytes | None]:
        if self._source is None:
            self._source = self._opened()
        if isinstance(self._source, RefusalError):
            raise self._source
        found = source_images(rows, self._source)
        images = _bytes_of(found)
        for number, (data, wanted) in enumerate(zip(images, rows["image_id"].to_pylist(), strict=True)):
            if data is None:
                self.gone += 1
                self.why_gone = self.why_gone or found["fault_message"][number].as_py() or ""
            elif image_id(data) != wanted:
                self.changed += 1
                images[number] = None
        return images

    def _opened(self) -> Callable[[Unit], pa.Table] | RefusalError:
        """What reads the input; or why it cannot be read any more, which is found out once."""
        try:
            return source_reader(self._ledger)
        except RefusalError as error:
            return error


def _bytes_of(images: pa.Table) -> list[bytes | None]:
    found: list[bytes | None] = images[ENCODED.name].to_pylist()
    return found


def _note(found: CuratedImages, fault: str) -> None:
    if fault not in found.faults:
        found.faults.append(fault)

"""The worker that decodes: source rows become facts, scores that need no weights, and pixels for models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from pipelines.clock import Clock
from pipelines.curation.settings import ScoreSettings
from pipelines.decoding import Decoded, DecodeError, decode
from pipelines.images import encode_image, image_id
from pipelines.resizing import resize
from pipelines.scorers.interface import ImageBatch
from pipelines.scorers.plain import plain_scorers
from pipelines.sources.faults import FAULT_NAMES, source_fault
from pipelines.worker import DeadLetter, WorkerResult
from schemas.generations import IMAGE_SUFFIXES
from schemas.images import IMAGE_FACTS, SOURCE_ROWS
from schemas.prompts import IMAGE

PIXELS = pa.struct(
    [
        pa.field("bytes", pa.large_binary()),  # RGB, in reading order
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
    ]
)
"""Decoded pixels on their way to a model."""
_BATCH_IMAGES = 16
"""Decoded at once: photographs of every pixel are large."""


class DecodeWorker:
    """Decodes images, and runs the scorers that have no weights."""

    def __init__(self, settings: ScoreSettings) -> None:
        self.settings = settings
        self.scorers = plain_scorers(settings.scorers)
        sides = [scorer.min_side for scorer in self.scorers]
        if settings.has_models:
            sides.append(settings.model_side)
        if settings.keep == "resized":
            sides.append(settings.images.resize.min_side)
        known = [side for side in sides if side is not None]
        self.min_side = max(known, default=1) if len(known) == len(sides) else None

    def process(self, rows: pa.Table) -> WorkerResult:
        """Rows of a source -> IMAGE_FACTS, the scores, and the columns passed through.

        With models among the scorers there is a column `pixels`, with kept images a column `image`.
        """
        clock, letters, tables = Clock(), list[DeadLetter](), list[pa.Table]()
        for start in range(0, rows.num_rows, _BATCH_IMAGES):
            batch = rows.slice(start, _BATCH_IMAGES)
            good: list[int] = []
            images: list[Decoded] = []
            for place, row in enumerate(batch.select(_NEEDED).to_pylist()):
                decoded = self._decoded(start + place, row, clock)
                if isinstance(decoded, DeadLetter):
                    letters.append(decoded)
                else:
                    good.append(place)
                    images.append(decoded)
            tables.append(self._table(batch.take(pa.array(good, pa.int64())), images, clock))
        return WorkerResult(table=pa.concat_tables(tables), failed=letters, seconds=clock.seconds)

    def _decoded(self, index: int, row: dict[str, Any], clock: Clock) -> Decoded | DeadLetter:
        if (letter := source_fault(index, row)) is not None:
            return letter
        try:
            with clock.measured("decode"):
                return decode(row["encoded"], self.settings.decode, self.min_side)
        except DecodeError as error:
            return DeadLetter.of(index, "decode", error)

    def _table(self, rows: pa.Table, images: Sequence[Decoded], clock: Clock) -> pa.Table:
        """The result rows of these source rows, all of which could be decoded."""
        with clock.measured("hash"):
            columns = _facts(rows, images)
        batch = ImageBatch(pixels=[i.pixels for i in images], captions=rows["caption"].to_pylist())
        for scorer in self.scorers:
            with clock.measured(type(scorer).__name__.lower()):
                columns |= scorer.score(batch)
        if self.settings.has_models:
            with clock.measured("reduce"):
                columns["pixels"] = _pixel_column([self._for_models(image.pixels) for image in images])
        if self.settings.keep != "none":
            with clock.measured("encode"):
                columns["image"] = self._image_column(rows, images, columns["image_id"])
        others = {name: rows[name] for name in rows.column_names if name not in SOURCE_ROWS.names}
        return pa.table(columns | others)

    def _for_models(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        factor = min(pixels.shape[:2]) // self.settings.model_side
        return np.asarray(Image.fromarray(pixels).reduce(factor)) if factor > 1 else pixels

    def _image_column(self, rows: pa.Table, images: Sequence[Decoded], ids: pa.Array) -> pa.Array:
        """The images to keep, each named by its id."""
        settings = self.settings.images
        if self.settings.keep == "original" or settings.format is None:
            encoded = rows["encoded"].to_pylist()
            suffixes = [IMAGE_SUFFIXES.get(image.format, image.format) for image in images]
        else:
            resized = [resize(image.pixels, settings.resize).pixels for image in images]
            encoded = [encode_image(pixels, settings.format, settings.quality) for pixels in resized]
            suffixes = [IMAGE_SUFFIXES[settings.format]] * len(images)
        values = [
            {"bytes": data, "path": f"{name}.{suffix}"}
            for data, name, suffix in zip(encoded, ids.to_pylist(), suffixes, strict=True)
        ]
        return pa.array(values, IMAGE)


_NEEDED = ["encoded", *FAULT_NAMES]


def _facts(rows: pa.Table, images: Sequence[Decoded]) -> dict[str, pa.Array]:
    """The columns of IMAGE_FACTS."""
    encoded = [value.as_buffer() for value in rows["encoded"]]
    width, height = (np.array([getattr(i, side) for i in images], np.int32) for side in ("width", "height"))
    size = np.array([buffer.size for buffer in encoded], np.int64)
    pixels = width.astype(np.int64) * height
    found: dict[str, Any] = {
        "image_id": [image_id(buffer) for buffer in encoded],
        "format": [image.format for image in images],
        "mode": [image.mode for image in images],
        "width": width,
        "height": height,
        "aspect": (width / height).astype(np.float32),
        "min_side": np.minimum(width, height),
        "size_bytes": size,
        "bytes_per_pixel": (size / pixels).astype(np.float32),
        "num_frames": [image.num_frames for image in images],
        "has_alpha": [image.has_alpha for image in images],
    }
    return {f.name: pa.array(found[f.name], f.type) if f.name in found else rows[f.name] for f in IMAGE_FACTS}


def _pixel_column(images: Sequence[NDArray[np.uint8]]) -> pa.Array:
    fields = [
        pa.array([np.ascontiguousarray(pixels).data for pixels in images], pa.large_binary()),
        pa.array([pixels.shape[0] for pixels in images], pa.int32()),
        pa.array([pixels.shape[1] for pixels in images], pa.int32()),
    ]
    return pa.StructArray.from_arrays(fields, fields=list(PIXELS))

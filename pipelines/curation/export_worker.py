"""The worker of an export: encodes images as the training set has them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from PIL import Image

from pipelines.clock import Clock
from pipelines.curation.export_plan import PLACE_NAMES
from pipelines.curation.settings import ExportSettings, KeptImages
from pipelines.curation.shard_images import ENCODED
from pipelines.decoding import DecodeError, DecodeLimits, decode
from pipelines.images import encode_image, image_id
from pipelines.resizing import resize
from pipelines.sources.faults import FAULT_NAMES, source_fault
from pipelines.worker import DeadLetter, WorkerResult
from schemas.generations import IMAGE_SUFFIXES
from schemas.images import EXPORTED
from schemas.prompts import IMAGE, SHOWN_AS_IMAGES


class ImageChangedError(Exception):
    """The image is not the one that was scored."""


class ExportWorker:
    """Encodes images as the training set has them."""

    def __init__(self, settings: ExportSettings, limits: DecodeLimits, kept: KeptImages) -> None:
        self.settings, self.limits, self.kept = settings, limits, kept

    def process(self, rows: pa.Table) -> WorkerResult:
        """Rows of `ReadImages` -> rows of the training set, with a column `image`."""
        clock, letters, good = Clock(), list[DeadLetter](), list[int]()
        images: list[dict[str, Any]] = []
        columns = rows.select(["image_id", "format", "key", "width", "height", ENCODED.name, *FAULT_NAMES])
        for index, row in enumerate(columns.to_pylist()):
            if (letter := source_fault(index, row)) is not None:
                letters.append(letter)
                continue
            try:
                with clock.measured("encode"):
                    images.append(self._image(row))
                good.append(index)
            except (DecodeError, ImageChangedError) as error:
                letters.append(DeadLetter.of(index, "export", error))
        table = rows.drop_columns([ENCODED.name, *FAULT_NAMES, *PLACE_NAMES]).take(pa.array(good, pa.int64()))
        return WorkerResult(table=_with_images(table, images), failed=letters, seconds=clock.seconds)

    def _image(self, row: dict[str, Any]) -> dict[str, Any]:
        """The image to write: bytes, suffix, size, and what was cut off."""
        data, settings = row["encoded"], self.settings.images
        if self.kept != "resized" and image_id(data) != row["image_id"]:
            raise ImageChangedError("the image changed since it was scored; score the input again")
        if settings.format is None and self.kept != "resized":
            suffix = IMAGE_SUFFIXES.get(row["format"], row["format"])
            size = {"width": row["width"], "height": row["height"]}
            return {"bytes": data, "suffix": suffix, "crop_left": 0, "crop_top": 0} | size
        if settings.format is None:  # scoring has encoded it as it shall be
            with Image.open(io.BytesIO(data)) as opened:
                size = {"width": opened.width, "height": opened.height}
                suffix = IMAGE_SUFFIXES[(opened.format or "").lower()]
            return {"bytes": data, "suffix": suffix, "crop_left": 0, "crop_top": 0} | size
        decoded = decode(data, self.limits, settings.resize.min_side)
        resized = resize(decoded.pixels, settings.resize)
        height, width = resized.pixels.shape[:2]
        return {
            "bytes": encode_image(resized.pixels, settings.format, settings.quality),
            "suffix": IMAGE_SUFFIXES[settings.format],
            "width": width,
            "height": height,
            "crop_left": resized.crop_left,
            "crop_top": resized.crop_top,
        }


def _with_images(table: pa.Table, images: Sequence[dict[str, Any]]) -> pa.Table:
    """The rows with their images: size and cut of what is written, and those that the source had."""
    names = table.column_names
    table = table.rename_columns([f"original_{n}" if n in ("width", "height") else n for n in names])
    for name in ("width", "height", "crop_left", "crop_top"):
        table = table.append_column(name, pa.array([image[name] for image in images], pa.int32()))
    values = [
        {"bytes": image["bytes"], "path": f"{key}.{image['suffix']}"}
        for key, image in zip(table["key"].to_pylist(), images, strict=True)
    ]
    table = table.append_column("image", pa.array(values, IMAGE))
    first = ["key", "caption", "width", "height"]
    table = table.select([*first, *(name for name in table.column_names if name not in first)])
    fields = [EXPORTED.field(f.name) if f.name in EXPORTED.names else f for f in table.schema]
    return table.cast(pa.schema(fields, metadata=SHOWN_AS_IMAGES))

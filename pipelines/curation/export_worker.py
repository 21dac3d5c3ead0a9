"""Read, encode and pack the images of a training set's shards."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from pipelines.clock import Clock
from pipelines.curation.export_plan import PLACE_NAMES
from pipelines.curation.settings import ExportSettings, KeptImages
from pipelines.decoding import DecodeError, DecodeLimits, decode
from pipelines.images import encode_image
from pipelines.inputs import read_unit
from pipelines.plan import Unit
from pipelines.resizing import resize
from pipelines.shards import Shard, parquet_bytes
from pipelines.storage import Storage
from pipelines.webdataset import json_member, tar_bytes
from pipelines.worker import DeadLetter, WorkerResult
from schemas.generations import IMAGE_SUFFIXES
from schemas.manifest import json_bytes
from schemas.prompts import IMAGE, SHOWN_AS_IMAGES

KEY_DIGITS = 4
ENCODED = pa.field("encoded", pa.large_binary())
_FAULT_NAMES = ["fault_stage", "fault_type", "fault_message"]


class ImageChangedError(Exception):
    """The image is not the one that was scored."""


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
        numbers = [number - unit.row_start for number in unit.row_numbers]
        keys = [f"{unit.position:05d}{number:0{KEY_DIGITS}d}" for number in numbers]
        images = (
            source_images(rows, self.read_source) if self.kept == "none" else kept_images(rows, self.scores)
        )
        names = rows.column_names
        rows = rows.rename_columns(["original_key" if name == "key" else name for name in names])
        rows = rows.append_column("key", pa.array(keys))
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
    return pa.table({ENCODED.name: pa.chunked_array(pieces)} | dict.fromkeys(_FAULT_NAMES, nothing))


def source_images(rows: pa.Table, read_source: Callable[[Unit], pa.Table]) -> pa.Table:
    """The images of some rows of scores as the source has them: `encoded`, and why one could not be read."""
    found = [read_source(run) for run in _runs(rows, "source")]
    return pa.concat_tables(table.select([ENCODED.name, *_FAULT_NAMES]) for table in found)


class ExportWorker:
    """Encodes images as the training set has them."""

    def __init__(self, settings: ExportSettings, limits: DecodeLimits, kept: KeptImages) -> None:
        self.settings, self.limits, self.kept = settings, limits, kept

    def process(self, rows: pa.Table) -> WorkerResult:
        """Rows of `ReadImages` -> rows of the training set, with a column `image`."""
        clock, letters, good = Clock(), list[DeadLetter](), list[int]()
        images: list[dict[str, Any]] = []
        columns = rows.select(["image_id", "format", "key", "width", "height", ENCODED.name, *_FAULT_NAMES])
        for index, row in enumerate(columns.to_pylist()):
            if row["fault_stage"] is not None:
                letters.append(
                    DeadLetter(
                        row=index,
                        stage=row["fault_stage"],
                        error_type=row["fault_type"],
                        message=row["fault_message"],
                    )
                )
                continue
            try:
                with clock.measured("encode"):
                    images.append(self._image(row))
                good.append(index)
            except (DecodeError, ImageChangedError) as error:
                letters.append(DeadLetter.of(index, "export", error))
        table = rows.drop_columns([ENCODED.name, *_FAULT_NAMES, *PLACE_NAMES]).take(
            pa.array(good, pa.int64())
        )
        return WorkerResult(table=_with_images(table, images), failed=letters, seconds=clock.seconds)

    def _image(self, row: dict[str, Any]) -> dict[str, Any]:
        """The image to write: bytes, suffix, size, and what was cut off."""
        data, settings = row["encoded"], self.settings.images
        if self.kept != "resized" and hashlib.sha256(data).hexdigest() != row["image_id"]:
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


@dataclass(frozen=True, kw_only=True)
class PackShard:
    """Encodes a shard: `data/NNNNN.parquet`, and for WebDataset `NNNNN.tar` and `NNNNN_stats.json` beside it.

    Attributes:
        format: See `ExportSettings`.
    """

    format: str

    def __call__(self, unit: Unit, table: pa.Table) -> list[Shard]:
        """All objects of the shard."""
        name = f"data/{unit.shard_name}"
        if self.format == "parquet":
            return [Shard(path=f"{name}.parquet", data=parquet_bytes(table), rows=table.num_rows)]
        facts = table.drop_columns(["image"]).replace_schema_metadata(None)
        stats = {
            "count": unit.num_rows,
            "successes": table.num_rows,
            "failed_to_download": unit.num_rows - table.num_rows,
            "failed_to_resize": 0,
            "status_dict": {"success": table.num_rows},
        }
        return [
            Shard(path=f"{name}.parquet", data=parquet_bytes(facts), rows=table.num_rows),
            Shard(path=f"{name}.tar", data=tar_bytes(_members(table, facts)), rows=table.num_rows),
            Shard(path=f"{name}_stats.json", data=json_bytes(stats), rows=0),
        ]


def _members(table: pa.Table, facts: pa.Table) -> Iterator[tuple[str, bytes]]:
    """Image, caption and facts of each sample."""
    for image, row in zip(table["image"], facts.to_pylist(), strict=True):
        yield image["path"].as_py(), image["bytes"].as_py()
        yield f"{row['key']}.txt", (row["caption"] or "").encode()
        yield f"{row['key']}.json", json_member(row)


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
    return table.replace_schema_metadata(SHOWN_AS_IMAGES)


def _runs(rows: pa.Table, of: Literal["scores", "source"]) -> Iterator[Unit]:
    """Neighbouring rows of one object whose numbers ascend, as a unit's do."""
    paths, fingerprints, numbers = (
        rows[f"{of}_{name}"].to_pylist() for name in ("path", "fingerprint", "row")
    )
    start = 0
    for stop in range(1, rows.num_rows + 1):
        if stop == rows.num_rows or paths[stop] != paths[start] or numbers[stop] <= numbers[stop - 1]:
            yield _slice_of(paths[start], fingerprints[start], numbers[start:stop])
            start = stop


def _slice_of(path: str, fingerprint: str, numbers: list[int]) -> Unit:
    """These rows of an object, in the form that readers take."""
    return Unit(
        id=path,
        position=0,
        path=path,
        fingerprint=fingerprint,
        row_start=numbers[0],
        row_stop=numbers[-1] + 1,
        rows=tuple(numbers),
    )

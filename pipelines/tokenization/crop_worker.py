"""The worker that decodes and crops."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipelines.clock import Clock
from pipelines.decoding import DecodeError, decode
from pipelines.images import image_id
from pipelines.sources.faults import FAULT_NAMES, source_fault
from pipelines.tokenization.buckets import Bucket, nearest_bucket
from pipelines.tokenization.crops import TooSmallError, cut_crops
from pipelines.tokenization.rows import CROPPED
from pipelines.tokenization.settings import TokenizeConfig
from pipelines.worker import DeadLetter, WorkerResult

EARLIER = ("original_width", "original_height", "crop_left", "crop_top")
"""Columns of a training set that say what was done to an image before."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class NoCaptionError(Exception):
    """The image has no caption to be trained with."""


class CropWorker:
    """Decodes images and cuts their crops."""

    def __init__(self, config: TokenizeConfig, buckets: Sequence[Bucket]) -> None:
        self.config, self.buckets = config, list(buckets)
        self.score = None if config.score is None else config.score.condition()
        longest = max(max(bucket.height, bucket.width) for bucket in buckets)
        self.min_side = math.ceil(longest / (config.min_crop if config.crops_per_image > 1 else 1))

    def process(self, rows: pa.Table) -> WorkerResult:
        """Rows of a source -> rows of CROPPED."""
        clock, letters, made = Clock(), list[DeadLetter](), list[dict[str, Any]]()
        for index, row in enumerate(rows.to_pylist()):
            if (letter := source_fault(index, {name: row[name] for name in FAULT_NAMES})) is not None:
                letters.append(letter)
                continue
            try:
                if not (row["caption"] or "").strip():
                    raise NoCaptionError("no caption: it would be trained as an image of anything")
                made.append(self._cropped(row, clock))
            except NoCaptionError as error:
                letters.append(DeadLetter.of(index, "caption", error))
            except DecodeError as error:
                letters.append(DeadLetter.of(index, "decode", error))
            except TooSmallError as error:
                letters.append(DeadLetter.of(index, "crop", error))
        return WorkerResult(table=pa.Table.from_pylist(made, CROPPED), failed=letters, seconds=clock.seconds)

    def _cropped(self, row: dict[str, Any], clock: Clock) -> dict[str, Any]:
        config = self.config
        with clock.measured("decode"):
            decoded = decode(row["encoded"], config.decode, self.min_side)
        bucket = nearest_bucket(self.buckets, decoded.width, decoded.height)
        with clock.measured("crop"):
            crops = cut_crops(
                decoded.pixels,
                bucket,
                name=row["row_id"],
                count=config.crops_per_image,
                min_crop=config.min_crop,
                enlarge=config.enlarge,
            )
        earlier = _earlier(row)
        reduction = decoded.pixels.shape[0] / decoded.height
        return {
            "row_id": row["row_id"],
            "image_id": _image_id(row),
            "caption": row["caption"],
            "captions": [text for text in row[config.captions] or () if text] if config.captions else [],
            "original_width": earlier.get("original_width", decoded.width),
            "original_height": earlier.get("original_height", decoded.height),
            "score": self._condition(row),
            "height": bucket.height,
            "width": bucket.width,
            "crops": [
                {
                    "pixels": crop.pixels.tobytes(),
                    # what was cut off before counts too, at the scale of this crop
                    "top": crop.top + round(earlier.get("crop_top", 0) * crop.scale * reduction),
                    "left": crop.left + round(earlier.get("crop_left", 0) * crop.scale * reduction),
                }
                for crop in crops
            ],
        }

    def _condition(self, row: dict[str, Any]) -> float:
        if self.score is None:
            return self.config.default_score
        value = row[self.score.column]
        is_there = value is not None and math.isfinite(value)
        return self.score.condition(value if is_there else self.score.default)


def _image_id(row: dict[str, Any]) -> str:
    """A training set's own id, which is of the bytes that it was made from, else of these."""
    own = row.get("image_id")
    return own if isinstance(own, str) and _DIGEST.fullmatch(own) else image_id(row["encoded"])


def _earlier(row: dict[str, Any]) -> dict[str, int]:
    """What a training set says of an image's first size and of what was cut off, where it makes sense."""
    found = {name: row.get(name) for name in EARLIER}
    sizes = [found[name] for name in EARLIER[:2]]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, int) and value >= 0}

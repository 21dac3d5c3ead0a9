"""The worker that decodes and crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipelines.clock import Clock
from pipelines.curation.faults import FAULT_NAMES, source_fault
from pipelines.decoding import DecodeError, decode
from pipelines.images import image_id
from pipelines.tokenization.buckets import Bucket, nearest_bucket
from pipelines.tokenization.crops import TooSmallError, cut_crops
from pipelines.tokenization.rows import CROPPED
from pipelines.tokenization.settings import TokenizeConfig
from pipelines.worker import DeadLetter, WorkerResult

EARLIER = ("original_width", "original_height", "crop_left", "crop_top")
"""Columns of a training set that say what was done to an image before."""


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
                made.append(self._cropped(row, clock))
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
        earlier = {name: row.get(name) for name in EARLIER}
        reduction = decoded.pixels.shape[0] / decoded.height
        return {
            "row_id": row["row_id"],
            "image_id": image_id(row["encoded"]),
            "caption": row["caption"] or "",
            "captions": [text for text in row[config.captions] or () if text] if config.captions else [],
            "original_width": earlier["original_width"] or decoded.width,
            "original_height": earlier["original_height"] or decoded.height,
            "score": self._condition(row),
            "height": bucket.height,
            "width": bucket.width,
            "crops": [
                {
                    "pixels": crop.pixels.tobytes(),
                    # what was cut off before counts too, at the scale of this crop
                    "top": crop.top + round((earlier["crop_top"] or 0) * crop.scale * reduction),
                    "left": crop.left + round((earlier["crop_left"] or 0) * crop.scale * reduction),
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

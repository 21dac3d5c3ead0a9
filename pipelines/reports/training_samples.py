"""The sheets of samples that a page has room for: the first, the last, and some evenly between."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipelines.decoding import PILLOW_MAX_PIXELS, DecodeError, DecodeLimits, decode
from pipelines.reports.training_log import StageRecord
from pipelines.storage import ObjectMissingError

_SHEETS = 10
_SMALL_SIDES, _SMALL_BYTES = (720, 512, 384, 256), 110_000
_LARGE_SIDES, _LARGE_BYTES = (1600, 1280, 960, 640), 700_000
_LIMITS = DecodeLimits(max_bytes=1 << 30, max_pixels=PILLOW_MAX_PIXELS)
"""Sheets are large, and our own."""
_QUALITY = 80


@dataclass(frozen=True, kw_only=True)
class SampleSheet:
    """Samples of a step.

    Attributes:
        label: The stage and the step in it.
        prompts: Of its rows from above; none where the run did not record them.
        small: A data URI; empty where the picture cannot be read.
        large: The same of a larger one, for the newest sheet alone.
    """

    label: str
    prompts: str
    small: str
    large: str


def sample_sheets(stages: Sequence[StageRecord]) -> list[SampleSheet]:
    """Sheets of all stages, from the first to the newest."""
    found = [(stage, step) for stage in stages for step in sorted(stage.pictures)]
    numbers = np.linspace(0, len(found) - 1, min(_SHEETS, len(found))).round().astype(int).tolist()
    return [_sheet(*found[number], is_newest=number == len(found) - 1) for number in numbers]


def _sheet(stage: StageRecord, step: int, *, is_newest: bool) -> SampleSheet:
    small, large = "", ""
    try:
        pixels = decode(stage.storage.read(stage.pictures[step]), _LIMITS, _LARGE_SIDES[0]).pixels
        picture = Image.fromarray(pixels)
        small = _fitting(picture, _SMALL_SIDES, _SMALL_BYTES)
        large = _fitting(picture, _LARGE_SIDES, _LARGE_BYTES) if is_newest else ""
    except (DecodeError, ObjectMissingError):  # shown as gone: a report is about more than its pictures
        pass
    return SampleSheet(
        label=f"{stage.name}, step {step:,}",
        prompts="; ".join(stage.prompts),
        small=small,
        large=large,
    )


def _fitting(picture: Image.Image, sides: Sequence[int], at_most: int) -> str:
    """A data URI of the largest size that has no more bytes; of the smallest where none has."""
    for side in sides:
        copy, buffer = picture.copy(), io.BytesIO()
        copy.thumbnail((side, side))
        copy.save(buffer, "webp", quality=_QUALITY, method=3)
        if buffer.tell() <= at_most:
            break
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"

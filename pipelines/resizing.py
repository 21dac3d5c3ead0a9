"""Resize images as img2dataset does: the same modes under the same names, but never enlarging."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import PositiveInt

from pipelines.config import Config

_REDUCING_GAP = 2.0
"""Pillow averages whole squares first, down to twice the size: faster, and hardly to be seen."""


class ResizeSettings(Config):
    """How large images become. None is enlarged: a smaller one keeps its scale.

    Attributes:
        mode: `no`: as they are. `keep_ratio`: the shorter side becomes `size`. `keep_ratio_largest`: the
            longer one. `center_crop`: as `keep_ratio`, then the middle square, of a smaller image the largest
            that it has. `border`: as `keep_ratio_largest`, then in the middle of a white square of `size`.
        size: Pixels.
    """

    mode: Literal["no", "keep_ratio", "keep_ratio_largest", "center_crop", "border"] = "no"
    size: PositiveInt = 256

    @property
    def min_side(self) -> int | None:
        """Pixels of the shorter side down to which an image may be reduced before; None where it may not.

        The size itself: what a JPEG's DCT scales down needs no better filter, and costs a third of the time.
        """
        return None if self.mode == "no" else self.size


@dataclass(frozen=True, kw_only=True)
class Resized:
    """A resized image and what was left out.

    Attributes:
        pixels: RGB, uint8 [height, width, 3].
        crop_left: Pixels cut off at the left, in the scale of the result, as micro-conditions want them.
        crop_top: At the top.
    """

    pixels: NDArray[np.uint8]
    crop_left: int
    crop_top: int


def resize(pixels: NDArray[np.uint8], settings: ResizeSettings) -> Resized:
    """Resize an image, RGB, uint8 [height, width, 3], by Lanczos' filter."""
    if settings.mode == "no":
        return Resized(pixels=pixels, crop_left=0, crop_top=0)
    picture = Image.fromarray(pixels)
    by_longer = settings.mode in ("keep_ratio_largest", "border")
    side = max(picture.size) if by_longer else min(picture.size)
    if side > settings.size:
        width, height = (max(round(length * settings.size / side), 1) for length in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)
    left = top = 0
    if settings.mode == "center_crop":
        square = min(picture.size)
        left, top = (picture.width - square) // 2, (picture.height - square) // 2
        picture = picture.crop((left, top, left + square, top + square))
    if settings.mode == "border":
        canvas = Image.new("RGB", (settings.size, settings.size), "white")
        canvas.paste(picture, ((settings.size - picture.width) // 2, (settings.size - picture.height) // 2))
        picture = canvas
    return Resized(pixels=np.asarray(picture), crop_left=left, crop_top=top)

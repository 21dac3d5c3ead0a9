"""Samples on one sheet: a row of images for each prompt, the prompt above it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_MIN_SIDE, _GAP, _FONT, _LINE = 128, 8, 14, 22
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def sample_grid(rows: Sequence[Sequence[NDArray[np.uint8]]], prompts: Sequence[str]) -> NDArray[np.uint8]:
    """Lay out images, uint8 [height, width, 3] and all of one size; small ones are shown larger."""
    height, width = rows[0][0].shape[:2]
    scale = max(1, -(-_MIN_SIDE // min(height, width)))
    height, width = height * scale, width * scale
    columns = len(rows[0])
    size = (columns * (width + _GAP) + _GAP, len(rows) * (height + _LINE + _GAP) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=_FONT)
    for number, (images, prompt) in enumerate(zip(rows, prompts, strict=True)):
        top = _GAP + number * (height + _LINE + _GAP)
        pen.text((_GAP, top), _shortened(prompt, font, size[0] - 2 * _GAP), _INK, font)
        for column, pixels in enumerate(images):
            picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(picture, (_GAP + column * (width + _GAP), top + _LINE))
    return np.asarray(sheet)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    text = " ".join(text.split())
    while text and font.getlength(text) > width:
        text = text.removesuffix("…")[:-1] + "…"
    return text

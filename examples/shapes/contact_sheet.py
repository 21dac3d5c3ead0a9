"""Lay out generated images with their captions, framed green where they show what was asked, else red."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from examples.shapes.verify import Verdict

RIGHT_RGB, WRONG_RGB, TEXT_RGB, PAPER_RGB = (30, 150, 70), (205, 40, 40), (40, 40, 40), (255, 255, 255)
_SCALE = 3
_FRAME_PX = 6
_GAP_PX = 14
_FONT_PX = 15
_LINE_PX = 20


def contact_sheet(
    images: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    verdicts: Sequence[Verdict],
    *,
    num_columns: int = 6,
) -> Image.Image:
    """Return a sheet of images in reading order.

    Args:
        images: uint8 [height, width, 3], all of one size.
        captions: what each image should show; written beneath it.
        verdicts: what the verifier said; what is wrong is named beneath the caption.
        num_columns: images a row.

    Raises:
        ValueError: no images, or the three sequences differ in length.
    """
    if not images or not len(images) == len(captions) == len(verdicts):
        counts = f"{len(images)} images, {len(captions)} captions, {len(verdicts)} verdicts"
        raise ValueError(f"{counts}; a contact sheet needs as many of each, at least one")
    font = ImageFont.load_default(size=_FONT_PX)
    height, width = (side * _SCALE for side in images[0].shape[:2])
    frame_width = width + 2 * _FRAME_PX
    notes = [
        [*_wrapped(caption, font, frame_width), *_wrapped(_complaint(verdict), font, frame_width)]
        for caption, verdict in zip(captions, verdicts, strict=True)
    ]
    num_lines = max(len(lines) for lines in notes)
    cell_width = frame_width + _GAP_PX
    cell_height = height + 2 * _FRAME_PX + num_lines * _LINE_PX + 2 * _GAP_PX
    num_columns = min(num_columns, len(images))
    num_rows = -(-len(images) // num_columns)
    sheet = Image.new(
        "RGB", (num_columns * cell_width + _GAP_PX, num_rows * cell_height + _GAP_PX), PAPER_RGB
    )
    pen = ImageDraw.Draw(sheet)
    for index, (image, lines, verdict) in enumerate(zip(images, notes, verdicts, strict=True)):
        row, column = divmod(index, num_columns)
        x, y = _GAP_PX + column * cell_width, _GAP_PX + row * cell_height
        color = RIGHT_RGB if verdict.right else WRONG_RGB
        bottom = y + height + 2 * _FRAME_PX
        pen.rectangle((x, y, x + frame_width - 1, bottom - 1), fill=color)
        enlarged = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (x + _FRAME_PX, y + _FRAME_PX))
        num_complaints = len(_wrapped(_complaint(verdict), font, frame_width))
        for number, line in enumerate(lines):
            ink = color if number >= len(lines) - num_complaints else TEXT_RGB
            pen.text((x, bottom + 6 + number * _LINE_PX), line, fill=ink, font=font)
    return sheet


def _complaint(verdict: Verdict) -> str:
    if verdict.right:
        return ""
    if not verdict.count:
        return "wrong: number of shapes"
    names = ("shape", "color", "size", "place", "background")
    return "wrong: " + ", ".join(name for name in names if not getattr(verdict, name))


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> list[str]:
    """Break a text at spaces into lines that fit; a single word may be wider."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines

"""Draw how a loss fell."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_SIZE = (640, 320)
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 16, 34
_INK, _GRID, _LINE, _PAPER = (60, 60, 60), (220, 220, 220), (35, 75, 215), (255, 255, 255)
_FONT_PX, _SCALE, _TICKS = 13, 2, 5


def loss_curve(points: Sequence[tuple[int, float]]) -> Image.Image:
    """A line through (step, loss), of at least two steps; drawn at twice the size, for smooth edges."""
    steps, losses = [step for step, _ in points], [loss for _, loss in points]
    low, high = 0.95 * min(losses), 1.02 * max(losses)
    width, height = (side * _SCALE for side in _SIZE)
    left, right, top, bottom = (margin * _SCALE for margin in (_LEFT, _RIGHT, _TOP, _BOTTOM))

    def place(step: float, loss: float) -> tuple[float, float]:
        x = left + (width - left - right) * step / steps[-1]
        return x, top + (height - top - bottom) * (high - loss) / (high - low)

    picture = Image.new("RGB", (width, height), _PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=_FONT_PX * _SCALE)
    for tick in range(_TICKS):
        loss = low + (high - low) * tick / (_TICKS - 1)
        step = steps[-1] * tick / (_TICKS - 1)
        (x, y), (x_of_step, floor) = place(0, loss), place(step, low)
        pen.line((x, y, width - right, y), fill=_GRID, width=_SCALE)
        pen.text((x - 8 * _SCALE, y), f"{loss:.1f}", _INK, font, anchor="rm")
        pen.text((x_of_step, floor + 6 * _SCALE), f"{step:,.0f}", _INK, font, anchor="mt")
    pen.line([place(step, loss) for step, loss in points], fill=_LINE, width=2 * _SCALE, joint="curve")
    pen.text((width - right, top), "loss by step", _INK, font, anchor="rt")
    return picture.resize(_SIZE, Image.Resampling.LANCZOS)

"""Pictures that behave like photographs: their spectrum falls as 1/f, with edges, plain and detailed parts.

What is coarse is drawn for each picture; detail is cut from a bank that all pictures share.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

COARSE = 64
"""Side of the fields that give a picture its layout."""
BANK_SIDE, BANK_SIZE = 1280, 6
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int


def picture(seed: tuple[int, ...], size: Size) -> Image.Image:
    """A picture, RGB; no two seeds give similar ones.

    Args:
        seed: Of everything in it.
        size: At most BANK_SIDE either way.
    """
    rng = np.random.default_rng(seed)
    canvas = Image.fromarray(_layout(rng)).resize((size.width, size.height), Image.Resampling.BICUBIC)
    _draw_shapes(canvas, rng)
    detail = _detail(rng, size)
    return Image.fromarray(np.clip(np.asarray(canvas) + detail[..., None], 0, 255).astype(np.uint8))


def _layout(rng: np.random.Generator) -> Pixels:
    """uint8 [COARSE, COARSE, 3]: clouds of one colour on another, and light that falls off to one side."""
    luma, mix = _field(rng, COARSE, 1.2), _field(rng, COARSE, 1.5)
    y, x = np.mgrid[0:COARSE, 0:COARSE] / COARSE - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    light = rng.uniform(0, 70) * (np.cos(angle) * x + np.sin(angle) * y)
    first, second = rng.uniform(-45, 45, (2, 3))
    share = np.clip(0.5 + 0.4 * mix, 0, 1)[..., None]
    level = rng.uniform(95, 160) + rng.uniform(28, 45) * luma + light
    colored: NDArray[np.float64] = level[..., None] + share * first + (1 - share) * second
    return np.clip(colored, 0, 255).astype(np.uint8)


def _draw_shapes(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Things with edges: ellipses and polygons of an eighth to half the picture."""
    pen = ImageDraw.Draw(canvas)
    width, height = canvas.size
    for _ in range(int(rng.integers(2, 7))):
        color = tuple(int(level) for level in rng.integers(20, 235, 3))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = rng.uniform(0.06, 0.3) * min(width, height)
        if rng.random() < 0.5:
            stretch = rng.uniform(0.5, 1)
            pen.ellipse((x - radius, y - radius * stretch, x + radius, y + radius * stretch), fill=color)
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            corners = zip(x + radius * np.cos(angles), y + radius * np.sin(angles), strict=True)
            pen.polygon([(float(a), float(b)) for a, b in corners], fill=color)


def _detail(rng: np.random.Generator, size: Size) -> NDArray[np.int16]:
    """int16 [height, width]: texture in some parts, little of it in others."""
    field = _bank()[int(rng.integers(BANK_SIZE))]
    top = int(rng.integers(BANK_SIDE - size.height + 1))
    left = int(rng.integers(BANK_SIDE - size.width + 1))
    texture = field[top : top + size.height, left : left + size.width]
    if rng.random() < 0.5:
        texture = texture[:, ::-1]
    strength = rng.uniform(0.5, 1.1) * np.clip(0.5 + 0.45 * _field(rng, 24, 1.2), 0.1, 1.4)
    scaled = (strength * 100).astype(np.uint8)
    wide = np.asarray(Image.fromarray(scaled).resize((size.width, size.height), Image.Resampling.BILINEAR))
    detail: NDArray[np.int16] = (texture * wide.astype(np.int16)) >> 7
    return detail


@cache
def _bank() -> NDArray[np.int16]:
    """int16 [BANK_SIZE, BANK_SIDE, BANK_SIDE]: 1/f noise without what is coarse, and some grain."""
    rng = np.random.default_rng(0)
    fields = []
    for _ in range(BANK_SIZE):
        field = 17 * _field(rng, BANK_SIDE, 0.9, lowest=20) + rng.normal(0, 2.5, (BANK_SIDE, BANK_SIDE))
        fields.append(np.clip(field, -120, 120).astype(np.int16))
    return np.stack(fields)


def _field(rng: np.random.Generator, side: int, power: float, lowest: float = 0.5) -> NDArray[np.float64]:
    """Noise [side, side] of amplitude 1 / f ** power from `lowest` cycles on; of mean 0 and deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) * side
    shape = np.where(frequency < lowest, 0, 1 / np.maximum(frequency, 0.5) ** power)
    spectrum = shape * (rng.normal(size=shape.shape) + 1j * rng.normal(size=shape.shape))
    field = np.fft.irfft2(spectrum, s=(side, side))
    scaled: NDArray[np.float64] = (field - field.mean()) / field.std()
    return scaled

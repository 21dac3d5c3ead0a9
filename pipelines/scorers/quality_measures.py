"""Measures of quality that need no weights; each function gives the formula and its source.

Y is luma as Pillow computes it: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded; uint8 [height, width].
Sums are of integers, so no processor and no order of summing changes a measure.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

Luma = NDArray[np.uint8]
Counts = NDArray[np.int64]
BLOCK = 8
"""Side of JPEG's blocks."""
_LEVELS = np.arange(256)
_CLIPPED_LOW, _CLIPPED_HIGH = 4, 251
_BORDER_SPREAD = 6
"""Levels between which a bar's pixels may lie from its middle; compressed black bars are not quite even."""
_STRIP_PIXELS = 1 << 15


def exposure(counts: Counts) -> float:
    """Mean of Y / 255.

    Args:
        counts: Pixels of each level of Y, int64 [256].
    """
    return float(counts @ _LEVELS / counts.sum() / 255)


def contrast(counts: Counts) -> float:
    """RMS contrast, the standard deviation of Y / 255.

    Peli, "Contrast in complex images", JOSA A 7 (10), 1990.

    Args:
        counts: Pixels of each level of Y, int64 [256].
    """
    return _deviation(int(counts.sum()), int(counts @ _LEVELS), int(counts @ _LEVELS**2)) / 255


def clipped(counts: Counts) -> float:
    """Share of pixels that are all but black or white, Y below 4 or above 251.

    Args:
        counts: Pixels of each level of Y, int64 [256].
    """
    return float((counts[:_CLIPPED_LOW].sum() + counts[_CLIPPED_HIGH + 1 :].sum()) / counts.sum())


def sharpness(luma: Luma) -> float | None:
    """Variance of the Laplacian, four times Y less its four neighbours: low where an image is blurred.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study", ICPR 2000. Null
    below 3 x 3 pixels.
    """
    if min(luma.shape) < 3:
        return None
    total = squares = 0
    for levels in _strips(luma):
        found = levels[1:-1, 1:-1] * np.int16(4)
        found -= levels[:-2, 1:-1]
        found -= levels[2:, 1:-1]
        found -= levels[1:-1, :-2]
        found -= levels[1:-1, 2:]
        exact = found.ravel().astype(np.float64)  # sums of so few integers are not rounded
        total, squares = total + int(exact.sum()), squares + int(exact @ exact)
    return _deviation(_inner_size(luma), total, squares) ** 2


def noise(luma: Luma) -> float | None:
    """Standard deviation of the noise, in levels: sqrt(pi / 2) / (6 (w - 2) (h - 2)) times the sum |Y * N|.

    N = [1 -2 1; -2 4 -2; 1 -2 1]. Immerkaer, "Fast noise variance estimation", Computer Vision and Image
    Understanding 64 (2), 1996. Fine texture counts as noise. Null below 3 x 3 pixels.
    """
    if min(luma.shape) < 3:
        return None
    total = 0
    for levels in _strips(luma):
        down = levels[:-2] - 2 * levels[1:-1] + levels[2:]  # N is the product of [1 -2 1] by itself
        found = down[:, :-2] - 2 * down[:, 1:-1] + down[:, 2:]
        total += int(np.abs(found, out=found).sum(dtype=np.int64))
    return math.sqrt(math.pi / 2) * total / (6 * _inner_size(luma))


def colorfulness(picture: Image.Image) -> float:
    """With rg = R - G, yb = (R + G) / 2 - B: sqrt(var rg + var yb) + 0.3 sqrt(mean rg ^ 2 + mean yb ^ 2).

    Hasler and Suesstrunk, "Measuring colorfulness in natural images", SPIE 5007, 2003: 0 for grey images,
    15 slightly, 33 moderately, 45 averagely, 59 quite, 82 highly, 109 extremely colourful.

    Args:
        picture: Of mode RGB.
    """
    size = picture.width * picture.height
    red, green, blue = picture.split()
    sum_r, sum_g, sum_b = (int(level_counts(channel) @ _LEVELS) for channel in (red, green, blue))
    squares_rg, squares_rb, squares_gb = (
        int(level_counts(ImageChops.difference(first, second)) @ _LEVELS**2)
        for first, second in ((red, green), (red, blue), (green, blue))
    )
    # 2 yb = (R - B) + (G - B), and (a + b)^2 = 2 a^2 + 2 b^2 - (a - b)^2
    sum_rg, sum_2yb = sum_r - sum_g, sum_r + sum_g - 2 * sum_b
    spread_rg = _deviation(size, sum_rg, squares_rg)
    spread_yb = _deviation(size, sum_2yb, 2 * squares_rb + 2 * squares_gb - squares_rg) / 2
    return math.hypot(spread_rg, spread_yb) + 0.3 * math.hypot(sum_rg / size, sum_2yb / 2 / size)


def blockiness(luma: Luma) -> float | None:
    """Mean step between 8x8 blocks of a JPEG, over the mean of all steps: about 1 where no blocks are seen.

    With B and A, the steps between and within blocks of Wang, Sheikh and Bovik, "No-reference perceptual
    quality assessment of JPEG compressed images", ICIP 2002, it is 8 B / (B + 7 A), which is 8 for even
    blocks, averaged over the two directions; their own score joins B and A by weights that are fitted to
    ratings. Blocks are looked for where the file's own are: those of an earlier file that was cropped or
    resized are not found, nor those of a photograph that was turned unless its sides are multiples of 8. 1
    for a flat image. Null below 16 x 16 pixels.
    """
    if min(luma.shape) < 2 * BLOCK:
        return None
    across = _step(luma[:, :-1], luma[:, 1:]).sum(axis=0, dtype=np.uint32)  # at most 255 times a side
    down = _step(luma[:-1], luma[1:]).sum(axis=1, dtype=np.uint32)
    ratios = [
        float(steps[BLOCK - 1 :: BLOCK].mean() / steps.mean()) if steps.any() else 1.0
        for steps in (across, down)
    ]
    return sum(ratios) / 2


def border_fraction(luma: Luma) -> float:
    """Share of the image that even bars at its edges take: letterboxes, pillarboxes, frames; 1 if all is.

    Rows belong to a bar from the edge on as long as all their Y are within 6 levels of the outermost row's
    median; then columns likewise, in the rows that are left. Plain backgrounds are bars, too.
    """
    top, bottom = _bars(luma, axis=1)
    inner = luma[top : len(luma) - bottom]
    left, right = _bars(inner, axis=0) if inner.size else (0, 0)
    return float(1 - len(inner) * (luma.shape[1] - left - right) / luma.size)


def level_counts(channel: Image.Image) -> Counts:
    """Pixels of each level, int64 [256], of a picture of mode L."""
    return np.array(channel.histogram(), np.int64)


def _deviation(count: int, total: int, squares: int) -> float:
    """Standard deviation of integers from how many they are, their sum and the sum of their squares."""
    return math.sqrt(count * squares - total * total) / count


def _strips(luma: Luma) -> Iterator[NDArray[np.int16]]:
    """Some rows at a time, with one more above and below: they stay in the processor's cache."""
    num_rows = max(_STRIP_PIXELS // luma.shape[1], 1)
    for start in range(0, len(luma) - 2, num_rows):
        yield luma[start : start + num_rows + 2].astype(np.int16)


def _inner_size(luma: Luma) -> int:
    """Pixels that have neighbours on all sides."""
    return (luma.shape[0] - 2) * (luma.shape[1] - 2)


def _step(first: Luma, second: Luma) -> Luma:
    return np.maximum(first, second) - np.minimum(first, second)


def _bars(luma: Luma, axis: int) -> tuple[int, int]:
    """How many rows are even from the first and from the last one on (axis 1), or columns (axis 0)."""
    lows, highs = luma.min(axis=axis).astype(np.int16), luma.max(axis=axis).astype(np.int16)
    found = []
    for edge, low, high in ((0, lows, highs), (-1, lows[::-1], highs[::-1])):
        level = np.median(luma.take(edge, axis=1 - axis))
        uneven = (low < level - _BORDER_SPREAD) | (high > level + _BORDER_SPREAD)
        found.append(int(uneven.argmax()) if uneven.any() else len(uneven))
    if found[0] == len(lows):
        return found[0], 0
    return found[0], min(found[1], len(lows) - found[0])

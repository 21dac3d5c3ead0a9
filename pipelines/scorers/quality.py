"""Measures of quality that need no weights; each function gives the formula and its source.

Luma is that of ITU-R BT.601, Y = 0.299 R + 0.587 G + 0.114 B, in [0, 255], float32 [height, width].
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.scorers.interface import ImageBatch

Plane = NDArray[np.float32]
BLOCK = 8
_CLIPPED_LOW, _CLIPPED_HIGH = 4, 251
_BORDER_SPREAD = 6.0
"""Levels within which a border's pixels lie; compressed black bars are not quite even."""


class Quality:
    """Sharpness, contrast, exposure, colour, noise, JPEG blocks and borders of each image, all its pixels."""

    min_side = None
    fields: Sequence[pa.Field] = (
        pa.field("sharpness_laplacian", pa.float32()),
        pa.field("contrast_rms", pa.float32()),
        pa.field("exposure_mean", pa.float32()),
        pa.field("exposure_clipped", pa.float32()),
        pa.field("colorfulness_hasler", pa.float32()),
        pa.field("noise_immerkaer", pa.float32()),
        pa.field("blockiness_wang", pa.float32()),
        pa.field("border_fraction", pa.float32()),
    )

    def score(self, batch: ImageBatch) -> dict[str, pa.Array]:
        """Null where an image is too small for a measure's window."""
        rows = [_measures(pixels) for pixels in batch.pixels]
        return {f.name: pa.array([row[f.name] for row in rows], f.type) for f in self.fields}


def _measures(pixels: NDArray[np.uint8]) -> dict[str, float | None]:
    luma = luma_of(pixels)
    return {
        "sharpness_laplacian": sharpness(luma),
        "contrast_rms": contrast(luma),
        "exposure_mean": float(luma.mean()) / 255,
        "exposure_clipped": clipped(luma),
        "colorfulness_hasler": colorfulness(pixels),
        "noise_immerkaer": noise(luma),
        "blockiness_wang": blockiness(luma),
        "border_fraction": border_fraction(luma),
    }


def luma_of(pixels: NDArray[np.uint8]) -> Plane:
    """Luma of RGB pixels, uint8 [height, width, 3]."""
    return pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def sharpness(luma: Plane) -> float | None:
    """Variance of the Laplacian, 4 Y(x,y) minus its four neighbours: low where an image is blurred.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    """
    if min(luma.shape) < 3:
        return None
    middle = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * middle
    return float(laplacian.var(dtype=np.float64))


def contrast(luma: Plane) -> float:
    """RMS contrast, the standard deviation of Y / 255.

    Peli, "Contrast in complex images", JOSA A 7, 1990.
    """
    return float(luma.std(dtype=np.float64)) / 255


def clipped(luma: Plane) -> float:
    """Share of pixels that are all but black or white, Y below 4 or above 251."""
    return float(np.count_nonzero((luma < _CLIPPED_LOW) | (luma > _CLIPPED_HIGH)) / luma.size)


def colorfulness(pixels: NDArray[np.uint8]) -> float:
    """With rg = R - G, yb = (R + G) / 2 - B: sqrt(var rg + var yb) + 0.3 sqrt(mean rg ^ 2 + mean yb ^ 2).

    Hasler and Suesstrunk, "Measuring colorfulness in natural images", SPIE 5007, 2003. 0 for grey images,
    15 slightly, 33 moderately, 59 highly, 109 extremely colourful.
    """
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(3))
    rg, yb = red - green, (red + green) / 2 - blue
    spread = np.hypot(rg.std(dtype=np.float64), yb.std(dtype=np.float64))
    return float(spread + 0.3 * np.hypot(rg.mean(dtype=np.float64), yb.mean(dtype=np.float64)))


def noise(luma: Plane) -> float | None:
    """Standard deviation of the noise, in levels: sqrt(pi / 2) / (6 (w - 2) (h - 2)) times the sum |Y * N|.

    N = [1 -2 1; -2 4 -2; 1 -2 1]. Immerkaer, "Fast noise variance estimation", CVIU 64, 1996. Texture counts
    as noise, so compare images of one kind.
    """
    if min(luma.shape) < 3:
        return None
    rows = luma[:-2] - 2 * luma[1:-1] + luma[2:]  # N is the product of [1 -2 1] by itself
    found = np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:])
    return float(np.sqrt(np.pi / 2) * found.mean(dtype=np.float64) / 6)


def blockiness(luma: Plane) -> float | None:
    """Mean step across the borders of JPEG's 8x8 blocks, over the mean of all steps; about 1 without blocks.

    The blocking term B against the activity of Wang, Sheikh and Bovik, "No-reference perceptual quality
    assessment of JPEG compressed images", ICIP 2002, as their ratio, averaged over both directions. They are
    seen at the grid that the file has; after a crop or a resize they are not.
    """
    if min(luma.shape) < 2 * BLOCK + 1:
        return None
    ratios = []
    for plane in (luma, luma.T):
        steps = np.abs(np.diff(plane, axis=1)).mean(axis=0, dtype=np.float64)
        activity = steps.mean()
        ratios.append(steps[BLOCK - 1 :: BLOCK].mean() / activity if activity > 0 else 1.0)
    return float(np.mean(ratios))


def border_fraction(luma: Plane) -> float:
    """Share of the image that even bars at its edges take: letterboxes, pillarboxes, frames. 1 if all is.

    A row or column is part of a bar when its luma stays within 6 levels of the outermost one's median.
    """
    height, width = luma.shape
    rows = [_bar(luma), _bar(luma[::-1])]
    columns = [_bar(luma.T), _bar(luma.T[::-1])]
    inner = max(height - sum(rows), 0) * max(width - sum(columns), 0)
    return 1 - inner / luma.size


def _bar(luma: Plane) -> int:
    """How many rows from the first on are even, and of the first one's level."""
    level = np.median(luma[0])
    even = (np.abs(luma - level) <= _BORDER_SPREAD).all(axis=1)
    return int(np.argmin(even)) if not even.all() else len(luma)

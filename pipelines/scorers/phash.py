"""Perceptual hash: near-duplicates have hashes that differ in few of 64 bits."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from pipelines.scorers.interface import ImageBatch

SIDE, LOW = 32, 8
_REDUCING_GAP = 2.0
"""Pillow averages whole squares first, down to twice the size: five times as fast at full scale."""
_FLAT = 1e-3
"""Coefficients nearer to the median are rounding: they count as equal to it, so flat images hash to 0."""


class PHash:
    """`phash`: 32x32 luma, its two-dimensional DCT-II, the 8x8 low frequencies against their median.

    The first coefficient, the mean brightness, is left out of the median and its bit is 0: it is larger than
    all others in nearly every image. Bits are in reading order, the first one the highest. After the pHash
    algorithm of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010).

    Hashes of an image at full and at reduced scale mostly differ in 0 to 4 bits.
    """

    min_side = 2 * SIDE

    def __init__(self, name: str = "phash") -> None:
        self.name = name
        self.fields: Sequence[pa.Field] = (pa.field(name, pa.uint64()),)

    def score(self, batch: ImageBatch) -> dict[str, pa.Array]:
        """The hash of each image, as uint64."""
        return {self.name: pa.array(perceptual_hashes(batch.pixels), pa.uint64())}


def perceptual_hashes(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint64]:
    """uint64 [B] of RGB images, uint8 [height, width, 3] each."""
    if not images:
        return np.zeros(0, np.uint64)
    luma_BSS = np.stack([_small_luma(pixels) for pixels in images]).astype(np.float64)
    dct_LS = _dct()
    low_BK = (dct_LS @ luma_BSS @ dct_LS.T).reshape(len(images), LOW * LOW)
    low_BK[:, 0] = -np.inf
    median_B1 = np.median(low_BK[:, 1:], axis=1, keepdims=True)
    bits_BK = low_BK > median_B1 + _FLAT
    return np.packbits(bits_BK, axis=1).view(">u8").astype(np.uint64).ravel()


def hamming(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """In how many of 64 bits hashes differ; arrays are broadcast."""
    return np.bitwise_count(first ^ second)


def _small_luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [32, 32]: ITU-R 601 luma, scaled by Lanczos' filter, which loses fewest duplicates."""
    grey = Image.fromarray(pixels).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP))


@cache
def _dct() -> NDArray[np.float64]:
    """The first 8 rows of the orthonormal DCT-II of length 32."""
    k, n = np.arange(LOW)[:, None], np.arange(SIDE)[None]
    rows: NDArray[np.float64] = np.sqrt(2 / SIDE) * np.cos(np.pi * (2 * n + 1) * k / (2 * SIDE))
    rows[0] /= np.sqrt(2)
    return rows

"""What an image's pixels say of its quality, without weights."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from pipelines.scorers.interface import ImageBatch
from pipelines.scorers.quality_measures import (
    blockiness,
    border_fraction,
    clipped,
    colorfulness,
    contrast,
    exposure,
    level_counts,
    noise,
    sharpness,
)
from schemas.described import described


class Quality:
    """Sharpness, contrast, exposure, colour, noise, JPEG blocks and borders of each image.

    It needs every pixel: neither noise nor blocks survive a reduction. `pipelines.scorers.quality_measures`
    gives the formulas.
    """

    min_side = None
    fields: Sequence[pa.Field] = tuple(
        described(name, pa.float32(), text)
        for name, text in (
            (
                "sharpness_laplacian",
                "variance of the Laplacian: low where blurred; null below 3x3 pixels",
            ),
            ("contrast_rms", "standard deviation of luma, 0 to 0.5"),
            ("exposure_mean", "mean of luma, 0 to 1"),
            ("exposure_clipped", "share of pixels that are all but black or white, 0 to 1"),
            ("colorfulness_hasler", "Hasler and Suesstrunk's, from 0: grey 0, average 45, extreme 109"),
            ("noise_immerkaer", "standard deviation of the noise, in levels of 255; null below 3x3 pixels"),
            (
                "blockiness_wang",
                "JPEG blocks: 1 where none are seen, at most 8; null below 16x16 pixels",
            ),
            ("border_fraction", "share of the image that even bars at its edges take, 0 to 1"),
        )
    )

    def score(self, batch: ImageBatch) -> dict[str, pa.Array]:
        """Null where an image is too small for a measure's window."""
        rows = [quality(pixels) for pixels in batch.pixels]
        return {f.name: pa.array([row[f.name] for row in rows], f.type) for f in self.fields}


def quality(pixels: NDArray[np.uint8]) -> dict[str, float | None]:
    """The measures of an RGB image, uint8 [height, width, 3], by column."""
    picture = Image.fromarray(pixels)
    grey = picture.convert("L")
    luma, counts = np.asarray(grey), level_counts(grey)
    return {
        "sharpness_laplacian": sharpness(luma),
        "contrast_rms": contrast(counts),
        "exposure_mean": exposure(counts),
        "exposure_clipped": clipped(counts),
        "colorfulness_hasler": colorfulness(picture),
        "noise_immerkaer": noise(luma),
        "blockiness_wang": blockiness(luma),
        "border_fraction": border_fraction(luma),
    }

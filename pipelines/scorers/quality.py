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


class Quality:
    """Sharpness, contrast, exposure, colour, noise, JPEG blocks and borders of each image.

    It needs every pixel: neither noise nor blocks survive a reduction. `pipelines.scorers.quality_measures`
    gives the formulas.
    """

    min_side = None
    fields: Sequence[pa.Field] = tuple(
        pa.field(name, pa.float32())
        for name in (
            "sharpness_laplacian",
            "contrast_rms",
            "exposure_mean",
            "exposure_clipped",
            "colorfulness_hasler",
            "noise_immerkaer",
            "blockiness_wang",
            "border_fraction",
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

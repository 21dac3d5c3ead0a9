"""Cut crops of a bucket's size out of an image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.tokenization.buckets import Bucket


class TooSmallError(Exception):
    """The image would have to be enlarged."""


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A crop and where it is in the resized image.

    Attributes:
        pixels: RGB, uint8 [height, width, 3].
        top: Pixels above it, in the resized image.
        left: Pixels to its left.
        scale: Pixels of the resized image for one of the image that was given.
    """

    pixels: NDArray[np.uint8]
    top: int
    left: int
    scale: float


def cut_crops(
    pixels: NDArray[np.uint8], bucket: Bucket, *, name: str, count: int, min_crop: float, enlarge: bool
) -> list[Crop]:
    """Resize an image so that it covers the bucket, and cut; the first crop is the middle of all of it.

    The others show at least `min_crop` of what the first shows in each direction, as far as the image has the
    pixels for that, at a place that `name` decides.

    Args:
        pixels: RGB, uint8 [height, width, 3].
        bucket: Size of the crops.
        name: Of the image, for the random places.
        count: How many crops.
        min_crop: See above.
        enlarge: Whether a smaller image is scaled up.

    Raises:
        TooSmallError: It is smaller than the bucket and may not be.
    """
    height, width = pixels.shape[:2]
    scale = max(bucket.width / width, bucket.height / height)
    if scale > 1 and not enlarge:
        raise TooSmallError(
            f"{width}x{height} pixels would have to be enlarged to {bucket.width}x{bucket.height}; set "
            "enlarge, or a lower resolution"
        )
    most = max(min(scale / min_crop, 1.0), scale)
    image, crops = Image.fromarray(pixels), list[Crop]()
    for number in range(count):
        rng = np.random.default_rng(_key(name, number))
        zoomed = scale if number == 0 else rng.uniform(scale, most)
        size = (max(round(width * zoomed), bucket.width), max(round(height * zoomed), bucket.height))
        slack = np.array([size[1] - bucket.height, size[0] - bucket.width])
        top, left = (slack // 2 if number == 0 else rng.integers(slack + 1)).tolist()
        resized = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        cut = resized.crop((left, top, left + bucket.width, top + bucket.height))
        crops.append(Crop(pixels=np.asarray(cut), top=top, left=left, scale=size[1] / height))
    return crops


def _key(name: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{name}\0{number}".encode()).digest()[:8], "big")

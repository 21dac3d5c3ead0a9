"""Crops: where they are cut, and what is refused."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.tokenization.buckets import Bucket
from pipelines.tokenization.crops import Crop, TooSmallError, cut_crops

BUCKET = Bucket(height=32, width=32)


def ramp(height: int, width: int) -> NDArray[np.uint8]:
    """Red is the column, green the row."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([columns, rows, np.zeros_like(rows)], axis=-1)


def cut(pixels: NDArray[np.uint8], count: int = 1, name: str = "a", **settings: bool) -> list[Crop]:
    return cut_crops(pixels, BUCKET, name=name, count=count, min_crop=0.5, **{"enlarge": False} | settings)


def test_the_first_crop_is_the_middle_of_all_of_it() -> None:
    (crop,) = cut(ramp(64, 128))
    assert crop.pixels.shape == (32, 32, 3)
    assert (crop.top, crop.left) == (0, 16)
    # in the resized image, half as large, so twice the column
    assert crop.pixels[16, 0, 0] == pytest.approx(2 * 16, abs=2)
    assert crop.pixels[16, -1, 0] == pytest.approx(2 * 48, abs=2)


def test_other_crops_differ_and_are_the_same_in_every_run() -> None:
    crops = cut(ramp(128, 128), count=6)
    assert len({(crop.top, crop.left, crop.scale) for crop in crops}) == 6
    again = cut(ramp(128, 128), count=6)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(crops, again, strict=True))
    assert [c.left for c in cut(ramp(128, 128), 6, "b")] != [c.left for c in crops]


def test_other_crops_show_enough_and_never_more_pixels_than_there_are() -> None:
    for crop in cut(ramp(128, 128), count=20):
        assert 0.25 <= crop.scale <= 0.5
    for crop in cut(ramp(40, 40), count=20):
        assert 0.8 <= crop.scale <= 1.0


def test_an_image_that_is_too_small_is_refused_or_enlarged() -> None:
    with pytest.raises(TooSmallError, match="40x16 pixels would have to be enlarged to 32x32"):
        cut(ramp(16, 40))
    (crop,) = cut(ramp(16, 40), enlarge=True)
    assert crop.pixels.shape == (32, 32, 3)

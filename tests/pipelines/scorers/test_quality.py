"""Measures of quality follow their formulas, and put images in the right order."""

import io
import math

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.signal import convolve2d

from pipelines.scorers.interface import ImageBatch
from pipelines.scorers.quality import Quality, quality
from tests.corpora.broken import photograph

Pixels = NDArray[np.uint8]


def pixels_of(picture: Image.Image) -> Pixels:
    return np.asarray(picture)


def compressed(picture: Image.Image, quality: int) -> Pixels:
    buffer = io.BytesIO()
    picture.save(buffer, "jpeg", quality=quality)
    return np.asarray(Image.open(buffer))


def noisy(picture: Image.Image, deviation: float) -> Pixels:
    noise = np.random.default_rng(1).normal(0, deviation, (picture.height, picture.width, 1))
    return (np.asarray(picture) + noise).round().clip(0, 255).astype(np.uint8)


def soft() -> Image.Image:
    """A photograph without its grain."""
    return photograph(320, 240).filter(ImageFilter.GaussianBlur(3))


def luma(pixels: Pixels) -> NDArray[np.float64]:
    return np.asarray(Image.fromarray(pixels).convert("L"), np.float64)


@pytest.mark.parametrize("size", [(240, 160), (3, 3), (17, 300), (1200, 900)])
def test_formulas(size: tuple[int, int]) -> None:
    pixels = pixels_of(photograph(*size))
    found, y = quality(pixels), luma(pixels)
    red, green, blue = (pixels[..., channel].astype(np.float64) for channel in range(3))
    rg, yb = red - green, (red + green) / 2 - blue
    laplacian = convolve2d(y, [[0, -1, 0], [-1, 4, -1], [0, -1, 0]], mode="valid")
    noise = convolve2d(y, [[1, -2, 1], [-2, 4, -2], [1, -2, 1]], mode="valid")
    expected = {
        "sharpness_laplacian": laplacian.var(),
        "contrast_rms": (y / 255).std(),
        "exposure_mean": y.mean() / 255,
        "exposure_clipped": ((y < 4) | (y > 251)).mean(),
        "colorfulness_hasler": math.hypot(rg.std(), yb.std()) + 0.3 * math.hypot(rg.mean(), yb.mean()),
        "noise_immerkaer": math.sqrt(math.pi / 2) * np.abs(noise).sum() / (6 * noise.size),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)


def test_blockiness_compares_steps_between_blocks_with_all_steps() -> None:
    y = luma(pixels_of(photograph(50, 35)))
    ratios = []
    for plane in (y, y.T):
        steps = np.abs(np.diff(plane, axis=1))
        between = [steps[:, column] for column in range(steps.shape[1]) if column % 8 == 7]
        ratios.append(np.mean(between) / np.mean(steps))
    assert quality(pixels_of(photograph(50, 35)))["blockiness_wang"] == pytest.approx(np.mean(ratios))


def test_the_more_blurred_the_less_sharp() -> None:
    picture = photograph(320, 240)
    blurred = [pixels_of(picture.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4)]
    found = [quality(pixels)["sharpness_laplacian"] for pixels in blurred]
    assert found == sorted(found, reverse=True)
    assert found[0] > 10 * found[-1]


@pytest.mark.parametrize("deviation", [3.0, 8.0, 20.0])
def test_noise_is_told_in_levels(deviation: float) -> None:
    # the middle, where nothing is clipped
    picture = Image.blend(soft(), Image.new("RGB", (320, 240), (128, 128, 128)), 0.6)
    assert quality(noisy(picture, deviation))["noise_immerkaer"] == pytest.approx(deviation, rel=0.1)


def test_the_more_compressed_the_more_blocks() -> None:
    found = [quality(compressed(soft(), level))["blockiness_wang"] for level in (95, 50, 20, 5)]
    assert found == sorted(found)
    assert found[0] < 1.5
    assert found[-1] > 3
    only_blocks = np.kron(pixels_of(photograph(99, 99)), np.ones((8, 8, 1), np.uint8))
    assert quality(only_blocks)["blockiness_wang"] == pytest.approx(8, rel=0.02)


def test_contrast_and_exposure() -> None:
    half = np.zeros((10, 20, 3), np.uint8)
    half[:, 10:] = 255
    found = quality(half)
    assert found["contrast_rms"] == pytest.approx(0.5)
    assert found["exposure_mean"] == pytest.approx(0.5)
    assert found["exposure_clipped"] == 1
    assert quality(half // 2 + 64)["contrast_rms"] == pytest.approx(127 / 255 / 2)
    assert quality(half // 2 + 64)["exposure_clipped"] == 0


def test_colourfulness() -> None:
    picture = photograph()
    grey = picture.convert("L").convert("RGB")
    found = [
        quality(pixels_of(Image.blend(grey, picture, part)))["colorfulness_hasler"] for part in (0, 0.5, 1)
    ]
    assert found[0] == 0
    assert found == sorted(found)
    assert found[1] == pytest.approx(found[2] / 2, rel=0.05)


@pytest.mark.parametrize(
    ("top", "bottom", "left", "right"),
    [(0, 0, 0, 0), (30, 20, 0, 0), (0, 0, 24, 40), (10, 10, 12, 12), (16, 0, 0, 0)],
)
@pytest.mark.parametrize("level", [0, 255, 90])
def test_borders_are_the_share_of_even_bars(top: int, bottom: int, left: int, right: int, level: int) -> None:
    grain = np.random.default_rng(0).integers(-2, 3, (160, 240, 1))  # as of compression
    pixels = np.repeat(np.clip(level + grain, 0, 255), 3, axis=2).astype(np.uint8)
    inner = photograph(240 - left - right, 160 - top - bottom)
    pixels[top : 160 - bottom, left : 240 - right] = inner
    expected = 1 - inner.width * inner.height / (240 * 160)
    assert quality(pixels)["border_fraction"] == pytest.approx(expected)


def test_an_even_image_is_all_border() -> None:
    found = quality(np.full((40, 30, 3), 77, np.uint8))
    assert found["border_fraction"] == 1
    assert found["blockiness_wang"] == 1
    assert found["sharpness_laplacian"] == found["noise_immerkaer"] == found["contrast_rms"] == 0


def test_images_too_small_for_a_measure_have_null() -> None:
    images = [
        np.full((height, width, 3), 9, np.uint8) for height, width in ((1, 1), (2, 90), (15, 90), (16, 16))
    ]
    scorer = Quality()
    columns = scorer.score(ImageBatch(pixels=images, captions=[None] * 4))
    assert set(columns) == {f.name for f in scorer.fields}
    assert all(columns[f.name].type == f.type == pa.float32() for f in scorer.fields)
    nulls = {name: [value is None for value in column.to_pylist()] for name, column in columns.items()}
    assert nulls.pop("sharpness_laplacian") == nulls.pop("noise_immerkaer") == [True, True, False, False]
    assert nulls.pop("blockiness_wang") == [True, True, True, False]
    assert not any(map(any, nulls.values()))


def test_every_pixel_is_needed() -> None:
    assert Quality().min_side is None

"""Images become as large as asked for, and never larger than they are."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipelines.config import ConfigError, load_config
from pipelines.resizing import ResizeSettings, resize


def ramps(width: int, height: int) -> NDArray[np.uint8]:
    """Red rises from left to right, green from top to bottom, blue is 0."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return pixels


@pytest.mark.parametrize(
    ("mode", "large", "small"),
    [
        ("no", (400, 300), (60, 40)),
        ("keep_ratio", (133, 100), (60, 40)),
        ("keep_ratio_largest", (100, 75), (60, 40)),
        ("center_crop", (100, 100), (40, 40)),
        ("border", (100, 100), (100, 100)),
    ],
)
def test_sizes(mode: str, large: tuple[int, int], small: tuple[int, int]) -> None:
    settings = ResizeSettings(mode=mode, size=100)  # type: ignore[arg-type]
    for size, expected in (((400, 300), large), ((60, 40), small)):
        for turned in (1, -1):
            found = resize(ramps(*size[::turned]), settings).pixels
            assert found.dtype == np.uint8
            assert found.shape == (*expected[::-turned], 3)


def test_what_is_small_enough_is_not_touched() -> None:
    pixels = ramps(60, 40)
    for mode in ("no", "keep_ratio", "keep_ratio_largest"):
        assert np.array_equal(resize(pixels, ResizeSettings(mode=mode, size=100)).pixels, pixels)
    exact = ramps(140, 100)
    assert np.array_equal(resize(exact, ResizeSettings(mode="keep_ratio", size=100)).pixels, exact)


def test_the_whole_image_is_shown_at_its_new_size() -> None:
    found = resize(ramps(1200, 900), ResizeSettings(mode="keep_ratio", size=90)).pixels
    assert np.abs(found.astype(int) - ramps(120, 90)).max() <= 3


def test_the_middle_is_kept_and_the_crop_told_in_the_new_scale() -> None:
    for size, place in (((400, 200), (50, 0)), ((200, 500), (0, 75))):
        cropped = resize(ramps(*size), ResizeSettings(mode="center_crop", size=100))
        assert (cropped.crop_left, cropped.crop_top) == place
        whole = resize(ramps(*size), ResizeSettings(mode="keep_ratio", size=100)).pixels
        left, top = place
        assert np.array_equal(cropped.pixels, whole[top : top + 100, left : left + 100])
    uncropped = resize(ramps(400, 200), ResizeSettings(mode="keep_ratio", size=100))
    assert (uncropped.crop_left, uncropped.crop_top) == (0, 0)


def test_borders_are_white_and_on_both_sides() -> None:
    found = resize(ramps(400, 200), ResizeSettings(mode="border", size=100)).pixels
    assert (found[:25] == 255).all()
    assert (found[75:] == 255).all()
    assert (found[25:75, :, 2] < 10).all()  # of the image, which has no blue
    small = resize(ramps(60, 40), ResizeSettings(mode="border", size=100)).pixels
    assert np.array_equal(small[30:70, 20:80], ramps(60, 40))


def test_long_thin_images_keep_a_pixel() -> None:
    assert resize(ramps(1000, 2), ResizeSettings(mode="keep_ratio_largest", size=100)).pixels.shape == (
        1,
        100,
        3,
    )


@pytest.mark.parametrize("mode", ["keep_ratio", "keep_ratio_largest", "center_crop", "border"])
def test_images_that_were_reduced_to_min_side_come_out_almost_the_same(mode: str) -> None:
    settings = ResizeSettings(mode=mode, size=50)  # type: ignore[arg-type]
    pixels, side = ramps(1280, 800), settings.min_side
    assert side is not None
    reduced = np.asarray(Image.fromarray(pixels).reduce(800 // side))
    assert min(reduced.shape[:2]) >= side
    apart, whole = resize(reduced, settings), resize(pixels, settings)
    assert (apart.crop_left, apart.crop_top) == (whole.crop_left, whole.crop_top)
    assert np.abs(apart.pixels.astype(int) - whole.pixels).max() <= 4


def test_every_pixel_is_needed_where_nothing_is_resized() -> None:
    assert ResizeSettings(mode="no", size=50).min_side is None


def test_other_modes_and_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="mode"):
        load_config(ResizeSettings, None, ["mode=stretch"])
    with pytest.raises(ConfigError, match="size"):
        load_config(ResizeSettings, None, ["size=0"])

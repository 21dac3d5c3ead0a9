"""Each image decodes properly, or has an error that says what is wrong; nothing in between."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipelines.decoding import (
    DecodeError,
    DecodeLimits,
    TooManyBytesError,
    TooManyPixelsError,
    TruncatedImageError,
    decode,
)
from tests.corpora.broken import Odd, broken, encoded, odd, photograph, truncated, whole

LIMITS = DecodeLimits()
BROKEN = [*truncated(), *broken()]
ODD = {item.name: item for item in odd()}


def outcome(data: bytes, min_side: int | None = None) -> str | None:
    try:
        decode(data, LIMITS, min_side)
    except DecodeError as error:
        return f"{type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("min_side", [None, 32])
@pytest.mark.parametrize("one", BROKEN, ids=lambda one: one.name)
def test_what_is_broken_has_an_error_at_any_scale(one: Odd, min_side: int | None) -> None:
    found = outcome(one.data, min_side)
    assert found is not None
    assert found.partition(":")[0] == one.error
    assert outcome(one.data, min_side) == found
    assert " at 0x" not in found


@pytest.mark.parametrize("one", ODD.values(), ids=lambda one: one.name)
def test_what_is_odd_decodes_to_upright_rgb(one: Odd) -> None:
    decoded = decode(one.data, LIMITS)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.shape == (decoded.height, decoded.width, 3)
    small = decode(one.data, LIMITS, 40)
    assert (small.width, small.height) == (decoded.width, decoded.height)
    if min(decoded.width, decoded.height) >= 40:
        assert 40 <= min(small.pixels.shape[:2]) < 80


def pixels_of(name: str, min_side: int | None = None) -> np.ndarray:
    return decode(ODD[name].data, LIMITS, min_side).pixels.astype(np.int64)


@pytest.mark.parametrize("name", whole())
@pytest.mark.parametrize("min_side", [None, 20])
def test_a_file_cut_off_anywhere_is_truncated(name: str, min_side: int | None) -> None:
    data = whole()[name]
    # a PNG ends with 16 bytes that hold no pixels, a GIF with two
    end = len(data) - {"png": 22, "gif": 2}.get(name, 0)
    for stop in [*range(1000, end, end // 20), *range(end - 8, end)]:
        with pytest.raises(TruncatedImageError, match=r"^it ends before the image does$"):
            decode(data[:stop], LIMITS, min_side)


def test_what_is_cut_off_after_the_pixels_or_the_first_frame_does_not_matter() -> None:
    whole_png = whole()["png"]
    assert np.array_equal(decode(whole_png[:-12], LIMITS).pixels, decode(whole_png, LIMITS).pixels)
    cut = decode(ODD["animated gif whose last frame is cut off"].data, LIMITS)
    assert cut.num_frames == 2
    assert np.array_equal(cut.pixels, pixels_of("animated gif"))


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("cmyk", 12),
        ("cmyk tiff", 2),
        ("progressive", 8),
        ("trailing garbage", 8),
        ("two pictures", 8),
        ("tiff of three pages", 0.1),
        ("profile of another space", 8),
        ("profile for grey on colours", 8),
        ("damaged profile", 8),
        ("damaged exif", 8),
        ("palette", 30),
    ],
)
def test_pixels_are_those_of_the_picture(name: str, tolerance: float) -> None:
    expected = np.asarray(photograph(), np.int64)
    assert np.abs(pixels_of(name) - expected).mean() < tolerance


@pytest.mark.parametrize("name", ["sixteen bits", "sixteen bits tiff", "sixteen bits pgm"])
def test_sixteen_bits_become_eight(name: str) -> None:
    expected = np.asarray(photograph().convert("L"))
    assert np.array_equal(pixels_of(name), np.repeat(expected[..., None], 3, axis=2))


def test_sixteen_bits_are_rounded() -> None:
    levels = np.array([[0, 128, 129, 32767, 65406, 65407, 65535]], np.uint16)
    found = decode(encoded(Image.fromarray(levels), "png"), LIMITS).pixels[0, :, 0]
    assert found.tolist() == np.round(levels[0] / 257).astype(int).tolist() == [0, 0, 1, 127, 254, 255, 255]


def test_transparent_parts_are_on_white() -> None:
    picture = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    picture.putpixel((0, 0), (255, 0, 0, 128))
    decoded = decode(encoded(picture, "png"), LIMITS)
    assert decoded.has_alpha
    assert decoded.pixels[3, 3].tolist() == [255, 255, 255]
    assert decoded.pixels[0, 0].tolist() == [255, 127, 127]
    grey = np.asarray(photograph().convert("L"), np.int64)
    found = pixels_of("sixteen bits with transparency")[..., 0]
    assert np.array_equal(found, np.where(grey == 100, 255, grey))
    assert np.abs(pixels_of("grey with alpha")[..., 0] - (grey * grey / 255 + 255 - grey)).max() <= 1


def test_opaque_images_may_have_alpha() -> None:
    picture = photograph()
    picture.putalpha(255)
    decoded = decode(encoded(picture, "png"), LIMITS)
    assert decoded.has_alpha
    assert decoded.mode == "RGBA"
    assert np.array_equal(decoded.pixels, np.asarray(photograph()))


def test_of_animations_the_first_frame_counts() -> None:
    for image_format in ("gif", "webp", "png"):
        decoded = decode(ODD[f"animated {image_format}"].data, LIMITS)
        assert decoded.num_frames == 3
        difference = np.abs(decoded.pixels.astype(np.int64) - np.asarray(photograph(), np.int64))
        assert difference.mean() < 30


@pytest.mark.parametrize("min_side", [None, 40])
def test_photographs_are_upright_and_so_is_their_size(min_side: int | None) -> None:
    straight = pixels_of("orientation 1", min_side)
    upright = {
        2: straight[:, ::-1],
        3: np.rot90(straight, 2),
        4: straight[::-1],
        5: straight.swapaxes(0, 1),
        6: np.rot90(straight, -1),
        7: np.rot90(straight.swapaxes(0, 1), 2),
        8: np.rot90(straight, 1),
    }
    for orientation, expected in upright.items():
        decoded = decode(ODD[f"orientation {orientation}"].data, LIMITS, min_side)
        assert (decoded.width, decoded.height) == ((240, 160) if orientation < 5 else (160, 240))
        assert np.array_equal(decoded.pixels, expected)


def test_colours_are_those_of_the_profile() -> None:
    swapped = np.asarray(photograph(), np.int64)[..., ::-1]
    assert np.abs(pixels_of("profile that swaps red and blue") - swapped).mean() < 5
    red, green, blue = pixels_of("cmyk with a profile")[0, 0]
    assert red > 2 * max(green, blue)
    cyan = encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "jpeg")
    red, green, blue = decode(cyan, LIMITS).pixels[0, 0]
    assert red < 10 < 245 < min(green, blue)


def test_colours_stay_where_the_profile_says_srgb() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = encoded(photograph(), "png", icc_profile=profile)
    assert np.array_equal(decode(same, LIMITS).pixels, np.asarray(photograph()))


def test_limits_are_checked_before_pixels_are_decoded() -> None:
    data = encoded(photograph(), "png")
    assert decode(data, DecodeLimits(max_pixels=240 * 160)).width == 240
    with pytest.raises(TooManyPixelsError, match="more than 38399 pixels, which is max_pixels"):
        decode(data, DecodeLimits(max_pixels=240 * 160 - 1))
    with pytest.raises(TooManyBytesError, match=r"the limit is 10, which is max_bytes"):
        decode(data, DecodeLimits(max_bytes=10))
    bombs = [item.data for item in BROKEN if "bomb" in item.name]
    tracemalloc.start()
    try:
        assert [outcome(bomb) is not None for bomb in bombs] == [True] * 3
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_errors_say_what_a_file_looks_like() -> None:
    for data, what in (
        (b"<!DOCTYPE html>", "it looks like an HTML page, not PNG, JPEG"),
        (b"\x80\x81", "as an image: not PNG, JPEG"),
        (b"GIF89a", "it begins as GIF, but its header is damaged"),
    ):
        assert what in str(outcome(data))


def test_animations_count_their_frames_and_photographs_with_previews_do_not() -> None:
    assert decode(ODD["tiff of three pages"].data, LIMITS).num_frames == 3
    assert decode(ODD["two pictures"].data, LIMITS).num_frames == 1


def test_threads_decode_at_once() -> None:
    images = list(ODD.values()) * 4
    alone = {name: decode(item.data, LIMITS).pixels for name, item in ODD.items()}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda item: decode(item.data, LIMITS).pixels, images))
    assert all(np.array_equal(pixels, alone[item.name]) for pixels, item in zip(found, images, strict=True))


@pytest.mark.parametrize("image_format", ["jpeg", "png", "webp"])
@pytest.mark.parametrize(("width", "height"), [(640, 411), (300, 1201)])
def test_reduced_images_have_the_shorter_side_asked_for_and_less_than_twice_of_it(
    image_format: str, width: int, height: int
) -> None:
    picture = photograph(width, height)
    data, shorter = encoded(picture, image_format), min(width, height)
    for min_side in (1, 7, 32, 100, 150, 205, 206, 299, 300, 301, 500):
        decoded = decode(data, LIMITS, min_side)
        assert (decoded.width, decoded.height) == (width, height)
        found = min(decoded.pixels.shape[:2])
        assert min_side <= found < max(2 * min_side, 2) if min_side <= shorter else found == shorter
        if min_side >= 32:
            expected = picture.resize(decoded.pixels.shape[1::-1], Image.Resampling.BOX)
            assert np.abs(decoded.pixels.astype(np.int64) - np.asarray(expected, np.int64)).mean() < 8


def test_small_scales_are_never_enlarged() -> None:
    data = encoded(photograph(50, 40), "jpeg")
    assert decode(data, LIMITS, 400).pixels.shape == (40, 50, 3)

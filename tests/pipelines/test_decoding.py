"""Each image decodes properly, or has an error that says what is wrong; nothing in between."""

import io
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
    UnknownFormatError,
    decode,
)
from tests.corpora.broken import Odd, broken, encoded, odd, photograph, truncated

LIMITS = DecodeLimits()


def outcome(data: bytes, min_side: int | None = None) -> str | None:
    try:
        decode(data, LIMITS, min_side)
    except DecodeError as error:
        return f"{type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("min_side", [None, 32])
@pytest.mark.parametrize("one", [*truncated(), *broken()], ids=lambda one: one.name)
def test_what_is_broken_has_an_error_at_any_scale(one: Odd, min_side: int | None) -> None:
    found = outcome(one.data, min_side)
    assert found is not None
    assert one.error in ("any", found.partition(":")[0])
    assert outcome(one.data, min_side) == found
    assert " at 0x" not in found


@pytest.mark.parametrize("one", list(odd()), ids=lambda one: one.name)
def test_what_is_odd_decodes_to_upright_rgb(one: Odd) -> None:
    decoded = decode(one.data, LIMITS)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.shape == (decoded.height, decoded.width, 3)
    small = decode(one.data, LIMITS, 40)
    assert (small.width, small.height) == (decoded.width, decoded.height)
    if min(decoded.width, decoded.height) >= 40:
        assert 40 <= min(small.pixels.shape[:2]) <= 160


def one(name: str) -> bytes:
    return next(item.data for item in odd() if item.name == name)


def test_a_file_cut_off_by_some_bytes_is_truncated_wherever_that_is() -> None:
    for image_format in ("jpeg", "png"):
        data = encoded(photograph(64, 48), image_format)
        for stop in range(len(data) // 2, len(data) - 16, 61):
            with pytest.raises(DecodeError):
                decode(data[:stop], LIMITS)
    with pytest.raises(TruncatedImageError, match="it ends before the image does"):
        decode(encoded(photograph(), "jpeg")[:-200], LIMITS, 20)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("cmyk", 12), ("progressive", 8), ("trailing garbage", 8), ("damaged profile", 8), ("palette", 60)],
)
def test_pixels_are_those_of_the_picture(name: str, tolerance: float) -> None:
    expected = np.asarray(photograph(), np.int64)
    assert np.abs(decode(one(name), LIMITS).pixels.astype(np.int64) - expected).mean() < tolerance


def test_sixteen_bits_become_eight() -> None:
    expected = np.asarray(photograph().convert("L"))
    pixels = decode(one("sixteen bits"), LIMITS).pixels
    assert np.array_equal(pixels, np.repeat(expected[..., None], 3, axis=2))


def test_transparent_parts_are_on_white() -> None:
    picture = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    picture.putpixel((0, 0), (255, 0, 0, 128))
    decoded = decode(encoded(picture, "png"), LIMITS)
    assert decoded.has_alpha
    assert decoded.pixels[3, 3].tolist() == [255, 255, 255]
    assert decoded.pixels[0, 0].tolist() == [255, 127, 127]


def test_of_animations_the_first_frame_counts() -> None:
    for image_format in ("gif", "webp", "png"):
        decoded = decode(one(f"animated {image_format}"), LIMITS)
        assert decoded.num_frames == 3
        difference = np.abs(decoded.pixels.astype(np.int64) - np.asarray(photograph(), np.int64))
        assert difference.mean() < 30


def test_photographs_are_upright_and_so_is_their_size() -> None:
    upright = np.asarray(photograph(), np.int64)
    turned = {3: np.rot90(upright, 2), 6: np.rot90(upright, -1), 8: np.rot90(upright, 1), 2: upright[:, ::-1]}
    for orientation, expected in turned.items():
        decoded = decode(one(f"orientation {orientation}"), LIMITS)
        assert (decoded.height, decoded.width) == expected.shape[:2]
        assert np.abs(decoded.pixels.astype(np.int64) - expected).mean() < 8


def test_colours_stay_where_the_profile_says_srgb_or_nothing_of_use() -> None:
    profile = ImageCms.createProfile("sRGB")
    same = encoded(photograph(), "png", icc_profile=ImageCms.ImageCmsProfile(profile).tobytes())
    assert np.array_equal(decode(same, LIMITS).pixels, np.asarray(photograph()))
    assert outcome(one("profile of another space")) is None


def test_limits_are_checked_before_pixels_are_decoded() -> None:
    data = encoded(photograph(), "png")
    assert decode(data, DecodeLimits(max_pixels=240 * 160)).width == 240
    with pytest.raises(TooManyPixelsError, match="more than 38399 pixels, which is max_pixels"):
        decode(data, DecodeLimits(max_pixels=240 * 160 - 1))
    with pytest.raises(TooManyBytesError, match=r"the limit is 10, which is max_bytes"):
        decode(data, DecodeLimits(max_bytes=10))
    bombs = [item.data for item in broken() if "bomb" in item.name]
    tracemalloc.start()
    try:
        assert [outcome(bomb) is not None for bomb in bombs] == [True] * 3
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_errors_say_what_a_file_looks_like() -> None:
    for data, what in (
        (b"<!DOCTYPE html>", "an HTML page"),
        (b"%PDF-1.7", "PDF"),
        (b"hello", "not PNG, JPEG"),
    ):
        with pytest.raises(UnknownFormatError, match=what):
            decode(data, LIMITS)


def test_threads_decode_at_once() -> None:
    images = [item for item in odd()] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda item: decode(item.data, LIMITS).pixels, images))
    assert all(np.array_equal(a, decode(b.data, LIMITS).pixels) for a, b in zip(found, images, strict=True))


def test_small_scales_are_never_enlarged() -> None:
    data = encoded(photograph(50, 40), "jpeg")
    assert decode(data, LIMITS, 400).pixels.shape == (40, 50, 3)
    assert Image.open(io.BytesIO(data)).size == (50, 40)

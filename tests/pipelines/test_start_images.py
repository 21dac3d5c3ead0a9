"""Start images and masks of generation, from encoded images that need not be trusted."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from pipelines.config import ConfigError, load_config
from pipelines.decoding import ImageError
from pipelines.images import RowImages, encode_image
from pipelines.start_images import start_image, token_mask

LIMITS = RowImages()


def picture(width: int = 8, height: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_start_images_become_pixels_of_the_asked_size() -> None:
    data = encode_image(picture(8, 4), "png", 95)
    same = start_image(data, 8, 4, LIMITS)
    assert torch.equal((same * 255).round().byte().permute(1, 2, 0), torch.from_numpy(picture(8, 4)))
    assert start_image(data, 16, 16, LIMITS).shape == (3, 16, 16)


def test_photographs_are_turned_upright() -> None:
    buffer, turned = io.BytesIO(), Image.Exif()
    turned[0x0112] = 6  # orientation: turn by 90 degrees
    Image.fromarray(picture(8, 4)).save(buffer, "jpeg", exif=turned)
    assert start_image(buffer.getvalue(), 4, 8, LIMITS).shape == (3, 8, 4)


def test_white_parts_of_a_mask_are_true() -> None:
    mask = np.zeros((4, 8), np.uint8)
    mask[:, 4:] = 255
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "png")
    assert token_mask(buffer.getvalue(), 8, 4, LIMITS).tolist() == (mask > 0).tolist()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "no bytes"),
        (b"no image", "cannot decode it as an image"),
        (encode_image(picture(64, 64), "png", 95)[:200], "ends before the image does"),
    ],
)
def test_broken_images_are_named_as_such(data: bytes, what: str) -> None:
    with pytest.raises(ImageError, match=what) as error:
        start_image(data, 8, 8, LIMITS)
    assert " object at " not in str(error.value)  # dead letters are the same in every run


def test_transparent_parts_are_white() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(buffer, "png")
    assert (start_image(buffer.getvalue(), 8, 8, LIMITS) == 1).all()


def header_of_png(width: int, height: int, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG of that declared size, with these chunks and a few bytes of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (10_000, 10_000), (8193, 8192)])
def test_more_pixels_than_the_limit_are_refused_before_they_are_decoded(
    width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*args: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    with pytest.raises(ImageError, match="more than 67108864 pixels, which is max_pixels"):
        start_image(header_of_png(width, height), 8, 8, LIMITS)


def test_the_limit_of_pixels_is_the_jobs() -> None:
    data = encode_image(picture(8, 4), "png", 95)
    assert start_image(data, 8, 4, RowImages(max_pixels=32)).shape == (3, 4, 8)
    with pytest.raises(ImageError, match="more than 31 pixels"):
        token_mask(data, 8, 4, RowImages(max_pixels=31))
    with pytest.raises(ConfigError, match="max_pixels"):
        load_config(RowImages, None, ["max_pixels=100000000"])


@pytest.mark.parametrize(
    ("kind", "before"), [(b"zTXt", b"Comment\0\0"), (b"iCCP", b"profile\0\0"), (b"iTXt", b"XML\0\1\0\0\0")]
)
def test_text_and_profiles_that_grow_when_decompressed_are_refused(kind: bytes, before: bytes) -> None:
    bomb = before + zlib.compress(bytes(200 << 20), 9)
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="cannot decode it as an image"):
            start_image(header_of_png(8, 8, (kind, bomb)), 8, 8, LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()

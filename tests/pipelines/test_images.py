"""Encoded images in and out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.images import ImageError, encode_image, image_bytes, start_image, token_mask


def picture(width: int = 8, height: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_png_keeps_every_level() -> None:
    pixels = picture()
    assert np.array_equal(np.array(Image.open(io.BytesIO(encode_image(pixels, "png", 95)))), pixels)


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_other_formats_are_what_they_say(name: str) -> None:
    opened = Image.open(io.BytesIO(encode_image(picture(64, 64), name, 90)))  # type: ignore[arg-type]
    assert (opened.format or "").lower() == name
    assert opened.size == (64, 64)


def test_start_images_become_pixels_of_the_asked_size() -> None:
    data = encode_image(picture(8, 4), "png", 95)
    same = start_image(data, 8, 4)
    assert torch.equal((same * 255).round().byte().permute(1, 2, 0), torch.from_numpy(picture(8, 4)))
    assert start_image(data, 16, 16).shape == (3, 16, 16)


def test_photographs_are_turned_upright() -> None:
    buffer, turned = io.BytesIO(), Image.Exif()
    turned[0x0112] = 6  # orientation: turn by 90 degrees
    Image.fromarray(picture(8, 4)).save(buffer, "jpeg", exif=turned)
    assert start_image(buffer.getvalue(), 4, 8).shape == (3, 8, 4)


def test_white_parts_of_a_mask_are_true() -> None:
    mask = np.zeros((4, 8), np.uint8)
    mask[:, 4:] = 255
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "png")
    assert token_mask(buffer.getvalue(), 8, 4).tolist() == (mask > 0).tolist()


@pytest.mark.parametrize("data", [b"", b"no image", encode_image(picture(64, 64), "png", 95)[:200]])
def test_broken_images_are_named_as_such(data: bytes) -> None:
    with pytest.raises(ImageError, match="cannot decode") as error:
        start_image(data, 8, 8)
    assert " object at " not in str(error.value)  # dead letters are the same in every run


def test_pixels_of_more_than_8_bits_are_refused_and_transparent_ones_are_white() -> None:
    def png(picture: Image.Image) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, "png")
        return buffer.getvalue()

    with pytest.raises(ImageError, match="mode I;16"):
        start_image(png(Image.new("I;16", (8, 8), 40_000)), 8, 8)
    assert (start_image(png(Image.new("RGBA", (8, 8), (0, 0, 0, 0))), 8, 8) == 1).all()


def test_images_are_read_from_bytes_or_from_paths_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"content")
    assert image_bytes({"bytes": b"own", "path": "a.png"}, str(tmp_path)) == b"own"
    assert image_bytes({"bytes": None, "path": "a.png"}, str(tmp_path)) == b"content"
    assert image_bytes({"bytes": None, "path": str(tmp_path / "a.png")}, "/elsewhere") == b"content"
    with pytest.raises(ImageError, match=r"missing\.png"):
        image_bytes({"bytes": None, "path": "missing.png"}, str(tmp_path))
    with pytest.raises(ImageError, match="cannot read it") as error:
        image_bytes({"bytes": None, "path": "data:image/png;base64," + "A" * 5000}, str(tmp_path))
    assert len(str(error.value)) < 300
    with pytest.raises(ImageError, match="neither"):
        image_bytes({"bytes": None, "path": None}, str(tmp_path))

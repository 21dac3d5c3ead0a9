"""Encoded images in and out: what a prompt row names, and what a shard holds."""

from __future__ import annotations

import hashlib
import io
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from pipelines.storage import StorageError, open_storage, split_uri

ImageFormat = Literal["png", "jpeg", "webp"]
SUFFIXES: dict[ImageFormat, str] = {"png": "png", "jpeg": "jpg", "webp": "webp"}
READ_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
SHOWN_PATH = 200
"""Characters of a path that an error repeats: some tables hold whole images as text."""
MASK_LEVEL = 128
"""Grey level, of 255, from which a mask's pixel is white."""


class ImageError(Exception):
    """An image that cannot be read. Its message is the same in every run: it stands in a dead letter."""


def encode_image(pixels: NDArray[np.uint8], image_format: ImageFormat, quality: int) -> bytes:
    """Pixels [H, W, 3] -> an encoded image. `quality` is for jpeg and webp, 1 to 100."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"png": {"compress_level": 6}}.get(image_format, {"quality": quality})
    Image.fromarray(pixels).save(buffer, format=image_format, **options)
    return buffer.getvalue()


def image_bytes(value: dict[str, Any], folder_uri: str) -> bytes:
    """The encoded bytes of an image struct: its own, or those that its path names, from `folder_uri` on.

    Raises:
        ImageError: It has neither, or the path cannot be read.
    """
    if value["bytes"]:
        return bytes(value["bytes"])
    path = value["path"]
    if not path:
        raise ImageError("neither bytes nor a path")
    absolute = "://" in path or path.startswith("/")
    try:
        storage, name = split_uri(path) if absolute else (open_storage(folder_uri), path)
        return storage.read(name)
    except (StorageError, OSError) as error:
        shown = path if len(path) <= SHOWN_PATH else f"{path[:SHOWN_PATH]}…"
        raise ImageError(f"{shown}: cannot read it ({type(error).__name__})") from error


def image_id(data: bytes) -> str:
    """SHA-256 of the encoded bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def start_image(data: bytes, width: int, height: int) -> Tensor:
    """Encoded bytes -> [3, height, width] in [0, 1], upright, on white, resized where it has another size."""
    picture = _open(data)
    if picture.has_transparency_data:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    picture = picture.convert("RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def token_mask(data: bytes, grid_width: int, grid_height: int) -> Tensor:
    """Encoded bytes -> bool [grid height, grid width], true where the mask is white."""
    grey = _open(data).convert("L").resize((grid_width, grid_height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(grey) >= MASK_LEVEL)


def _open(data: bytes) -> Image.Image:
    try:
        opened = Image.open(io.BytesIO(data), formats=READ_FORMATS)
        opened.load()
        picture = ImageOps.exif_transpose(opened)
    except Exception as error:  # decoders raise whatever they meet in a damaged file
        raise ImageError(f"cannot decode it as an image ({type(error).__name__})") from error
    if picture.mode.startswith(("I", "F")):
        raise ImageError(f"its pixels are of mode {picture.mode}; convert it to 8 bits a channel")
    return picture

"""Images that generation starts from, and masks of what it makes anew."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipelines.decoding import DecodeLimits, decode
from pipelines.images import RowImages

MASK_LEVEL = 128
"""Grey level, of 255, from which a mask's pixel is white."""


def start_image(data: bytes, width: int, height: int, limits: RowImages) -> Tensor:
    """Encoded bytes -> [3, height, width] in [0, 1], upright, on white, resized where it has another size.

    Raises:
        ImageError: It cannot be decoded.
    """
    picture = _decoded(data, limits)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def token_mask(data: bytes, grid_width: int, grid_height: int, limits: RowImages) -> Tensor:
    """Encoded bytes -> bool [grid height, grid width], true where the mask is white.

    Raises:
        ImageError: It cannot be decoded.
    """
    grey = _decoded(data, limits).convert("L").resize((grid_width, grid_height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(grey) >= MASK_LEVEL)


def _decoded(data: bytes, limits: RowImages) -> Image.Image:
    bounds = DecodeLimits(max_bytes=limits.max_bytes, max_pixels=limits.max_pixels)
    return Image.fromarray(decode(data, bounds).pixels)

"""From pixels as files have them to 8-bit sRGB without transparency."""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_CONVERTIBLE = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_MAX_PROFILE_BYTES = 4 << 20
"""Profiles of printing presses have 0.5 to 3 MB; some are kept in memory, whoever made them."""


def can_flatten(opened: Image.Image) -> bool:
    """Whether the range of its pixels is known; that of 32-bit integers and floats is not."""
    return opened.mode in _CONVERTIBLE or _has_sixteen_bits(opened)


def flattened(opened: Image.Image) -> Image.Image:
    """A picture of mode RGB, L or CMYK, 8 bits a channel, on white where it is transparent.

    16 bits become 8 by v * 255 / 65535, rounded.
    """
    if _has_sixteen_bits(opened):
        levels = np.asarray(opened).astype(np.uint32)
        small = ((levels * 255 + 32895) >> 16).astype(np.uint8)  # PNG specification, 13.12
        if (transparent := opened.info.get("transparency")) is not None:
            small[levels == transparent] = 255
        return Image.fromarray(small)
    if opened.has_transparency_data:
        full = opened.convert("LA" if opened.mode == "La" else "RGBA").convert("RGBA")
        colors, alpha = full.convert("RGB"), full.getchannel("A")
        if alpha.getextrema() == (255, 255):
            return colors
        return Image.composite(colors, Image.new("RGB", full.size, "white"), alpha)
    return opened if opened.mode in ("RGB", "L", "CMYK") else opened.convert("RGB")


def in_srgb(flat: Image.Image, profile: bytes | None) -> Image.Image:
    """What `flattened` made as sRGB; profiles that are damaged, or of other pixels, are ignored.

    CMYK without a profile becomes RGB as Pillow does it, (1 - C)(1 - K) and so on.
    """
    transform = None
    if profile and len(profile) <= _MAX_PROFILE_BYTES:
        transform = _transform(profile, flat.mode)
    if transform is not None:
        return transform.apply(flat)
    return flat if flat.mode == "RGB" else flat.convert("RGB")


def _has_sixteen_bits(opened: Image.Image) -> bool:
    # Pillow reads a PGM of more than 8 bits as 32-bit integers, but scales its levels to 65535
    return opened.mode in _SIXTEEN_BITS or (opened.mode == "I" and opened.format == "PPM")


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """To sRGB; None where there is nothing to do, or nothing that can be done."""
    try:
        opened = ImageCms.getOpenProfile(io.BytesIO(profile))
        if mode == "RGB" and ImageCms.getProfileDescription(opened).lower().startswith("srgb"):
            return None
        return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None

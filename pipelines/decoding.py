"""Decode images that somebody else made: upright 8-bit RGB in sRGB, or an error that says what is wrong.

    decoded = decode(data, DecodeLimits(), min_side=224)
    decoded.pixels      # uint8 [height, width, 3], perhaps at a reduced scale
    decoded.width       # of the image itself

Nothing here imports torch: workers without models start fast. Threads may decode at once.
"""

import functools
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError
from pydantic import Field, PositiveInt

from pipelines.config import Config

READ_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
PILLOW_MAX_PIXELS = 89_478_485
"""From there on Pillow warns of a decompression bomb, and refuses twice as many."""
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_LOOKS_LIKE = {
    b"<!doc": "an HTML page",
    b"<html": "an HTML page",
    b"<?xml": "XML, perhaps SVG",
    b"<svg": "SVG",
    b"%pdf": "PDF",
    b"{": "JSON",
    b"pk\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "gzip",
}


class ImageError(Exception):
    """An image that cannot be had. Its message is the same in every run: it stands in a dead letter."""


class DecodeError(ImageError):
    """An image that cannot be decoded."""


class EmptyImageError(DecodeError):
    """There are no bytes."""


class UnknownFormatError(DecodeError):
    """The bytes do not begin as an image of READ_FORMATS does."""


class TruncatedImageError(DecodeError):
    """The bytes end before the image does."""


class CorruptImageError(DecodeError):
    """The bytes are damaged."""


class TooManyBytesError(DecodeError):
    """The encoded image is larger than the limit."""


class TooManyPixelsError(DecodeError):
    """Its header declares more pixels than the limit; they are not decoded."""


class UnsupportedImageError(DecodeError):
    """Its pixels cannot become 8-bit RGB without a choice that nobody has made."""


class DecodeLimits(Config):
    """How large an image may be.

    Attributes:
        max_bytes: Of the encoded image.
        max_pixels: By its header; more is not decoded.
    """

    max_bytes: PositiveInt = 32 << 20
    max_pixels: int = Field(default=1 << 26, ge=1, le=PILLOW_MAX_PIXELS)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A decoded image.

    Attributes:
        pixels: sRGB, uint8 [height, width, 3], upright; transparent parts are on white. Of an animation the
            first frame. Perhaps at a reduced scale, see `decode`.
        width: Of the image itself, upright, in pixels.
        height: The same.
        format: "jpeg", "png", …
        mode: Of the stored pixels, in Pillow's terms, such as "CMYK" or "I;16".
        num_frames: More than 1 for animations and files of several pages.
        has_alpha: Whether it declares transparency.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    mode: str
    num_frames: int
    has_alpha: bool


def decode(data: bytes, limits: DecodeLimits, min_side: int | None = None) -> Decoded:
    """Decode an image.

    Args:
        data: The encoded image.
        limits: How large it may be.
        min_side: The shorter side that suffices, in pixels. Where the image has f times as many, f >= 2, it
            is decoded at 1/f of its size: a JPEG by its DCT, f being 2, 4 or 8, another by box filter. Never
            enlarged. None for every pixel.

    Raises:
        DecodeError: One of its subclasses says why.
    """
    if not data:
        raise EmptyImageError("no bytes")
    if len(data) > limits.max_bytes:
        raise TooManyBytesError(f"{len(data)} bytes; the limit is {limits.max_bytes}, which is max_bytes")
    too_large = f"more than {limits.max_pixels} pixels, which is max_pixels"
    try:
        opened = Image.open(io.BytesIO(data), formats=READ_FORMATS)  # reads the header alone
    except UnidentifiedImageError as error:
        raise UnknownFormatError(_described(data)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixelsError(too_large) from error
    except Exception as error:  # decoders raise whatever they meet in a damaged file
        raise _fault(error) from error
    width, height = opened.size
    if width * height > limits.max_pixels:
        raise TooManyPixelsError(too_large)
    format_name, mode = "jpeg" if opened.format == "MPO" else (opened.format or "").lower(), opened.mode
    try:
        num_frames = 1 if format_name == "jpeg" else getattr(opened, "n_frames", 1)
        if min_side is not None and format_name == "jpeg":
            opened.draft(None, (min_side, min_side))
        opened.load()
        if format_name != "jpeg":
            width, height = opened.size  # some formats turn themselves upright
        has_alpha = opened.has_transparency_data
        picture = _rgb(opened, has_alpha)
        turn = _TURNS.get(_orientation(opened))
        if turn is not None:
            picture = picture.transpose(turn)
    except DecodeError:
        raise
    except Exception as error:
        raise _fault(error) from error
    if turn in _SIDEWAYS:
        width, height = height, width
    if min_side is not None and (factor := min(picture.size) // min_side) > 1:
        picture = picture.reduce(factor)
    return Decoded(
        pixels=np.asarray(picture),
        width=width,
        height=height,
        format=format_name,
        mode=mode,
        num_frames=num_frames,
        has_alpha=has_alpha,
    )


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation."""
_SIDEWAYS = tuple(_TURNS[orientation] for orientation in (5, 6, 7, 8))


def _orientation(opened: Image.Image) -> int:
    """1 to 8. Damaged EXIF says nothing about the pixels, so it counts as none."""
    if not {"exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp"} & opened.info.keys():
        return 1
    try:
        found = opened.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # its parser raises whatever it meets
        return 1
    return found if isinstance(found, int) else 1


def _rgb(opened: Image.Image, has_alpha: bool) -> Image.Image:
    """The picture as sRGB, on white where it is transparent."""
    picture = opened
    if picture.mode in SIXTEEN_BITS:
        picture = Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        raise UnsupportedImageError(
            f"pixels of mode {opened.mode}, whose range is not known; convert them to 8 bits a channel"
        )
    if has_alpha:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        picture = Image.composite(picture.convert("RGB"), Image.new("RGB", picture.size, "white"), alpha)
    elif picture.mode not in ("RGB", "L", "CMYK"):
        picture = picture.convert("RGB")
    if profile := opened.info.get("icc_profile"):
        to_srgb = _to_srgb(profile, picture.mode)
        if to_srgb is not None:
            return to_srgb.apply(picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


@functools.lru_cache(maxsize=32)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From an ICC profile; None where there is nothing to do, or it is damaged or of other pixels."""
    try:
        opened = ImageCms.getOpenProfile(io.BytesIO(profile))
        if mode == "RGB" and ImageCms.getProfileDescription(opened).lower().startswith("srgb"):
            return None
        return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _fault(error: Exception) -> DecodeError:
    text = str(error).lower()
    if "truncat" in text or isinstance(error, EOFError):
        return TruncatedImageError("it ends before the image does")
    return CorruptImageError(f"cannot decode it as an image ({type(error).__name__})")


def _described(data: bytes) -> str:
    start = data[:64].lstrip().lower()
    looks = next((what for magic, what in _LOOKS_LIKE.items() if start.startswith(magic)), None)
    known = ", ".join(READ_FORMATS)
    return (
        f"cannot decode it as an image: it looks like {looks}"
        if looks
        else (f"cannot decode it as an image: not {known}")
    )

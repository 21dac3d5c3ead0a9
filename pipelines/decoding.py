"""Decode images that somebody else made: upright 8-bit RGB in sRGB, or an error that says what is wrong.

    decoded = decode(data, DecodeLimits(), min_side=224)
    decoded.pixels      # uint8 [height, width, 3], perhaps at a reduced scale
    decoded.width       # of the image itself

Nothing here imports torch: workers without models start fast. Threads may decode at once.
"""

import io
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from pydantic import Field, PositiveInt

from pipelines.config import Config
from pipelines.signatures import image_format, other_kind, says_it_is_longer
from pipelines.srgb import can_flatten, flattened, in_srgb

READ_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
PILLOW_MAX_PIXELS = 89_478_485
"""From there on Pillow warns of a decompression bomb, and refuses twice as many."""


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
        num_frames: More than 1 for animations and files of several pages; those up to the first damaged one.
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

    A file that ends early is an error, except that of an animation, or of a file of several pages, only the
    first frame must be whole. What libjpeg itself does not tell is not seen: bits that were changed within a
    JPEG, or one that was closed by a marker before its last row.

    Profiles are applied where they are sound (see `pipelines.srgb`), orientation as EXIF or XMP say.

    Args:
        data: The encoded image.
        limits: How large it may be.
        min_side: The shorter side that suffices, in pixels, at least 1. None for every pixel. With the
            shorter side s, a JPEG is decoded at 1/f of its size by its DCT, f the largest of 1, 2, 4, 8 with
            f * min_side <= s. What is still g = s // min_side times as large, of any format, is averaged over
            squares of g. So min_side <= the result's shorter side, which is below 2 * min_side, and nothing
            is enlarged.

    Raises:
        DecodeError: One of its subclasses says why.
    """
    if not data:
        raise EmptyImageError("no bytes")
    if len(data) > limits.max_bytes:
        raise TooManyBytesError(f"{len(data)} bytes; the limit is {limits.max_bytes}, which is max_bytes")
    opened = _opened(data, limits)
    width, height = opened.size
    format_name = "jpeg" if opened.format == "MPO" else (opened.format or "").lower()
    mode = opened.mode
    if not can_flatten(opened):
        raise UnsupportedImageError(
            f"pixels of mode {mode}, whose range is not known; convert them to 8 bits a channel"
        )
    try:
        if format_name == "jpeg" and min_side is not None:
            opened.draft(None, (min_side, min_side))
        opened.load()
        if format_name != "jpeg":
            width, height = opened.size  # TIFF turns itself upright
        has_alpha = opened.has_transparency_data
        picture = flattened(opened)
        if min_side is not None and (factor := min(picture.size) // min_side) > 1:
            picture = picture.reduce(factor)
        if (turn := _TURNS.get(_orientation(opened))) is not None:
            picture = picture.transpose(turn)
        pixels = np.asarray(in_srgb(picture, opened.info.get("icc_profile")))
        # of several pictures in a JPEG, the others are previews or other views of the first
        num_frames = 1 if format_name == "jpeg" else _num_frames(opened)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever they meet in a damaged file
        raise _fault(error, data) from error
    if turn in _SIDEWAYS:
        width, height = height, width
    return Decoded(
        pixels=pixels,
        width=width,
        height=height,
        format=format_name,
        mode=mode,
        num_frames=num_frames,
        has_alpha=has_alpha,
    )


def _opened(data: bytes, limits: DecodeLimits) -> Image.Image:
    """The image with its header read and found to be within the limits."""
    too_large = f"more than {limits.max_pixels} pixels, which is max_pixels"
    try:
        opened = Image.open(io.BytesIO(data), formats=READ_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixelsError(too_large) from error
    except MemoryError:
        raise
    except Exception as error:  # see decode
        raise _fault(error, data) from error
    width, height = opened.size
    if width * height > limits.max_pixels:
        raise TooManyPixelsError(too_large)
    if width * height == 0:
        raise CorruptImageError(f"cannot decode it as an image: its header says {width}x{height} pixels")
    return opened


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


def _num_frames(opened: Image.Image) -> int:
    """Frames that can be found; this may leave the image at another one."""
    try:
        return int(getattr(opened, "n_frames", 1))
    except Exception:  # the first frame is whole, which is all that is asked for
        return opened.tell() + 1


def _fault(error: Exception, data: bytes) -> DecodeError:
    """What Pillow's error means; its own message tells addresses in memory."""
    text = str(error)
    if "truncat" in text.lower() or isinstance(error, EOFError | IndexError | struct.error):
        return TruncatedImageError("it ends before the image does")
    found = image_format(data)
    if found is not None and says_it_is_longer(data):
        return TruncatedImageError("it ends before the image does")
    cannot = "cannot decode it as an image"
    if "MAX_TEXT" in text or "too large" in text.lower():
        return CorruptImageError(f"{cannot}: a text or profile in it is too large")
    if not isinstance(error, UnidentifiedImageError):
        return CorruptImageError(f"{cannot} ({type(error).__name__})")
    if found is not None:
        return CorruptImageError(f"{cannot}: it begins as {found}, but its header is damaged")
    kind = other_kind(data)
    known = f"not {', '.join(READ_FORMATS)}"
    return UnknownFormatError(f"{cannot}: " + (f"it looks like {kind}, {known}" if kind else known))

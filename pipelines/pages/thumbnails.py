"""Small pictures inside a page, as data URIs."""

from __future__ import annotations

import base64
import io

from PIL import Image

from pipelines.decoding import DecodeError, DecodeLimits, decode

SIDE = 256
_QUALITY = 72


def thumbnail(data: bytes | None, side: int = SIDE) -> str:
    """An encoded image as a small one; "" where there is none or it cannot be decoded any more.

    Args:
        data: In any format that curation reads.
        side: Pixels of the longer side at most.
    """
    encoded = thumbnail_bytes(data, side)
    return f"data:image/webp;base64,{base64.b64encode(encoded).decode()}" if encoded else ""


def thumbnail_bytes(data: bytes | None, side: int = SIDE) -> bytes:
    """The same as the bytes of a WebP file; b"" where there is no image."""
    try:
        picture = Image.fromarray(decode(data or b"", DecodeLimits(), side).pixels)
    except DecodeError:  # a page is about all of its rows; an image that is gone is no reason to have none
        return b""
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "webp", quality=_QUALITY, method=3)
    return buffer.getvalue()

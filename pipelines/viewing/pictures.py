"""What is sent to the browser: bytes of formats that it shows, and small pictures, the last of them kept."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import cache

from PIL import Image, ImageDraw

from pipelines.decoding import READ_FORMATS
from pipelines.pages.thumbnails import SIDE, thumbnail_bytes

TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
}
"""What browsers show as pictures and as nothing else, by Pillow's name of the format."""
_CACHED_BYTES = 64 << 20
_DECODING = 4
"""Images that are decoded at once: each may take some hundred MB."""


def content_type(data: bytes) -> str | None:
    """What the bytes are, by their own beginning; None for all that a browser should not show."""
    try:
        with Image.open(io.BytesIO(data), formats=READ_FORMATS) as opened:
            return TYPES.get(opened.format or "")
    except Exception:  # decoders raise whatever they meet in a damaged file
        return None


class Thumbnails:
    """The last thumbnails, by their rows' places in the index."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._lock, self._decoding = threading.Lock(), threading.Semaphore(_DECODING)

    def get(self, row: int, read: Callable[[], bytes]) -> bytes:
        """The WebP file of a row's image; a picture that says so where it cannot be decoded.

        Args:
            row: Its place in the index.
            read: Gives the encoded image.
        """
        with self._lock:
            if row in self._kept:
                self._kept.move_to_end(row)
                return self._kept[row]
        data = read()
        with self._decoding:
            picture = thumbnail_bytes(data) or no_image()
        with self._lock:
            self._kept[row] = picture
            while sum(map(len, self._kept.values())) > _CACHED_BYTES:
                self._kept.popitem(last=False)
        return picture


@cache
def no_image() -> bytes:
    """A picture for a row that has none, as a WebP file."""
    picture = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    ImageDraw.Draw(picture).text(
        (SIDE / 2, SIDE / 2), "no image", fill=(128, 128, 128, 255), anchor="mm", font_size=22
    )
    buffer = io.BytesIO()
    picture.save(buffer, "webp", lossless=True)
    return buffer.getvalue()

"""What encoded bytes are by their beginning, for errors about files that cannot be decoded."""

import struct

_FORMATS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_OTHERS = {
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"<": "markup",
    b"%pdf": "PDF",
    b"{": "JSON",
    b"[": "JSON",
    b"pk\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "gzip",
    b"8bps": "Photoshop",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cjxl": "JPEG XL",
    b"\0\0\0\x0cjp": "JPEG 2000",
}
"""Beginnings in lower case, without white space before them."""
_BOXES = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC"}
"""What files of ISO base media are by their first brand; others are mostly videos."""
_SHOWN = 512
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def image_format(data: bytes) -> str | None:
    """The format whose signature the bytes begin with, one of those that `pipelines.decoding` reads.

    BMP and PPM are not told: their two letters begin many a text.
    """
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if _brand(data) == "AVIF":
        return "AVIF"
    return next((name for start, name in _FORMATS.items() if data.startswith(start)), None)


def other_kind(data: bytes) -> str | None:
    """What bytes without such a signature are, as "an HTML page"; None where that is not known."""
    start = data[:_SHOWN].removeprefix(_BYTE_ORDER_MARK).lstrip()
    if not start:
        return "white space"
    if not data.strip(b"\0"):
        return "zeros"
    lower = start.lower()
    if lower.startswith(b"<?xml") and b"<svg" in lower:
        return "SVG"
    if (
        known := next((what for magic, what in _OTHERS.items() if lower.startswith(magic)), None)
    ) is not None:
        return known
    if data[4:8] == b"ftyp":
        return _brand(data) or "a video"
    return "text" if all(byte >= 32 or byte in b"\t\n\r\f" for byte in start) and start.isascii() else None


def says_it_is_longer(data: bytes) -> bool:
    """Whether a WebP, AVIF or TIFF file names a length or a place past its end."""
    try:
        match image_format(data):
            case "WEBP":
                return _number("<I", data, 4) + 8 > len(data)
            case "AVIF":
                return _end_of_boxes(data) > len(data)
            case "TIFF":
                order = "<" if data.startswith(b"II") else ">"
                return _number(f"{order}I", data, 4) >= len(data)
    except struct.error:  # not even that much is there
        return True
    return False


def _brand(data: bytes) -> str | None:
    return _BOXES.get(data[8:12]) if data[4:8] == b"ftyp" else None


def _end_of_boxes(data: bytes) -> int:
    """Where the boxes of a file of ISO base media end by the sizes that they declare."""
    place = 0
    while place < len(data):
        size = _number(">I", data, place)
        if size == 1:
            size = _number(">Q", data, place + 8)
        if size == 0:  # up to the end
            return len(data)
        place += max(size, 8)
    return place


def _number(form: str, data: bytes, place: int) -> int:
    return int(struct.unpack_from(form, data, place)[0])

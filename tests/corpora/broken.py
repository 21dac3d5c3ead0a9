"""Broken and odd images, each with what must become of it: the type of its error, or None if it decodes."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageCms

from tests.corpora.profiles import every_ink_is_red, red_is_blue

SHARES = (0.05, 0.1, 0.3, 0.5, 0.8, 0.95, 0.99)
"""Of a file, after which it is cut off."""


@dataclass(frozen=True, kw_only=True)
class Odd:
    """One image.

    Attributes:
        name: What is odd about it.
        suffix: Of a file that would hold it.
        data: Its bytes.
        error: Type of its error; None where it decodes.
    """

    name: str
    suffix: str
    data: bytes
    error: str | None = None


def photograph(width: int = 240, height: int = 160, seed: int = 0) -> Image.Image:
    """Colours that change softly, with grain, as in a photograph."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray((soft + rng.normal(0, 5, soft.shape)).clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, image_format, **options)
    return buffer.getvalue()


def of_three(image_format: str) -> bytes:
    """An animation, or pages, of three photographs."""
    first, *others = [photograph(seed=n) for n in range(3)]
    return encoded(first, image_format, save_all=True, append_images=others)


def png_of(width: int, height: int, *extra: tuple[bytes, bytes], pixels: bytes = bytes(100)) -> bytes:
    """A PNG of that declared size, with these chunks before its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header declares that size, with the pixels of a small one."""
    data = bytearray(encoded(photograph(16, 16), "jpeg"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@cache
def whole() -> dict[str, bytes]:
    """Files with nothing behind their pixels that could be cut off unseen, by name."""
    photo = photograph()
    return {
        "jpeg": encoded(photo, "jpeg"),
        "jpeg progressive": encoded(photo, "jpeg", progressive=True),
        "jpeg in four inks": encoded(photo.convert("CMYK"), "jpeg"),
        "jpeg with restarts": encoded(photo, "jpeg", restart_marker_rows=1),
        "png": encoded(photo, "png"),
        "webp": encoded(photo, "webp"),
        "webp lossless": encoded(photo, "webp", lossless=True),
        "webp animated": of_three("webp"),
        "gif": encoded(photo, "gif"),
        "bmp": encoded(photo, "bmp"),
        "tiff": encoded(photo, "tiff"),
        "avif": encoded(photo, "avif"),
    }


def truncated() -> Iterator[Odd]:
    """Files cut off at many places, after their header."""
    for name, data in whole().items():
        for share in SHARES:
            yield Odd(
                name=f"{name} cut at {share:.0%}",
                suffix=name.partition(" ")[0],
                data=data[: int(len(data) * share)],
                error="TruncatedImageError",
            )


def broken() -> Iterator[Odd]:
    """Files that are no images, or lie."""
    photo, png = encoded(photograph(), "jpeg"), encoded(photograph(), "png")
    wrong_checksum = bytearray(png)
    wrong_checksum[len(png) // 2] ^= 0xFF
    wrong_header = bytearray(png)
    wrong_header[20] ^= 0xFF
    bomb = b"c\0\0" + zlib.compress(bytes(32 << 20), 1)
    grey = np.zeros((9, 9), np.float32)
    for name, suffix, data, error in (
        ("empty", "jpg", b"", "EmptyImageError"),
        ("one byte", "jpg", photo[:1], "UnknownFormatError"),
        ("zeros", "jpg", bytes(5000), "UnknownFormatError"),
        ("wrong magic", "jpg", b"XX" + photo[2:], "UnknownFormatError"),
        ("a page", "jpg", b"<!DOCTYPE html><html></html>", "UnknownFormatError"),
        ("svg", "png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "UnknownFormatError"),
        ("text", "jpg", b"not an image\n" * 100, "UnknownFormatError"),
        ("pdf", "jpg", b"%PDF-1.7\n%\xe2\xe3", "UnknownFormatError"),
        ("png bomb", "png", png_of(60_000, 60_000), "TooManyPixelsError"),
        ("png somewhat too large", "png", png_of(10_000, 10_000), "TooManyPixelsError"),
        ("jpeg bomb", "jpg", jpeg_of(65_500, 65_500), "TooManyPixelsError"),
        ("png with a wrong checksum", "png", bytes(wrong_checksum), "CorruptImageError"),
        ("png with a damaged header", "png", bytes(wrong_header), "CorruptImageError"),
        ("png of no width", "png", png_of(0, 8), "CorruptImageError"),
        ("png without pixels", "png", png_of(64, 64), "TruncatedImageError"),
        ("text bomb", "png", png_of(8, 8, (b"zTXt", bomb), pixels=bytes(200)), "CorruptImageError"),
        ("float tiff", "tif", encoded(Image.fromarray(grey), "tiff"), "UnsupportedImageError"),
        ("lab tiff", "tif", encoded(Image.new("LAB", (9, 9)), "tiff"), "UnsupportedImageError"),
        ("gif without frames", "gif", encoded(photograph(), "gif")[:13] + b";", "CorruptImageError"),
    ):
        yield Odd(name=name, suffix=suffix, data=data, error=error)


def odd() -> Iterator[Odd]:
    """Images that are seldom, and decode."""
    photo = photograph()
    grey = photo.convert("L")
    alpha = photo.copy()
    alpha.putalpha(grey)
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    jpeg = encoded(photo, "jpeg")
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    red = Image.new("CMYK", (64, 64), (0, 255, 255, 0))
    animated = of_three("gif")
    png = encoded(photo, "png")
    for name, suffix, data in (
        ("cmyk", "jpg", encoded(photo.convert("CMYK"), "jpeg")),
        ("cmyk with a profile", "jpg", encoded(red, "jpeg", icc_profile=every_ink_is_red())),
        ("cmyk tiff", "tif", encoded(photo.convert("CMYK"), "tiff")),
        ("grey", "jpg", encoded(grey, "jpeg")),
        ("progressive", "jpg", encoded(photo, "jpeg", progressive=True)),
        ("jpeg closed before its last row", "jpg", jpeg_of(16, 64)),
        ("trailing garbage", "jpg", jpeg + b"garbage" * 100),
        ("two pictures", "jpg", of_three("mpo")),
        ("palette", "png", encoded(photo.quantize(16), "png")),
        ("palette with transparency", "png", encoded(photo.quantize(16), "png", transparency=3)),
        ("one bit", "png", encoded(photo.convert("1"), "png")),
        ("sixteen bits", "png", encoded(sixteen, "png")),
        ("sixteen bits with transparency", "png", encoded(sixteen, "png", transparency=257 * 100)),
        ("sixteen bits tiff", "tif", encoded(sixteen, "tiff")),
        ("sixteen bits pgm", "pgm", encoded(sixteen, "ppm")),
        ("alpha", "png", encoded(alpha, "png")),
        ("grey with alpha", "png", encoded(alpha.convert("LA"), "png")),
        ("alpha webp", "webp", encoded(alpha, "webp", lossless=True)),
        ("animated gif", "gif", animated),
        ("animated gif whose last frame is cut off", "gif", animated[: len(animated) * 2 // 3]),
        ("animated webp", "webp", of_three("webp")),
        ("animated png", "png", of_three("png")),
        ("tiff of three pages", "tif", of_three("tiff")),
        ("png without its end", "png", png[:-12]),
        ("long text", "png", png_of(8, 8, (b"tEXt", b"c\0" + b"x" * (4 << 20)), pixels=bytes(200))),
        ("profile that swaps red and blue", "png", encoded(photo, "png", icc_profile=red_is_blue())),
        ("profile of another space", "jpg", encoded(photo, "jpeg", icc_profile=lab)),
        ("profile for grey on colours", "jpg", encoded(photo, "jpeg", icc_profile=every_ink_is_red())),
        ("damaged profile", "jpg", encoded(photo, "jpeg", icc_profile=b"\0" * 200)),
        ("damaged exif", "jpg", encoded(photo, "jpeg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")),
        ("1x1", "png", encoded(photo.resize((1, 1)), "png")),
        ("1x1 jpeg", "jpg", encoded(photo.resize((1, 1)), "jpeg")),
        ("1x300", "png", encoded(photo.resize((1, 300)), "png")),
        ("300x1", "jpg", encoded(photo.resize((300, 1)), "jpeg")),
    ):
        yield Odd(name=name, suffix=suffix, data=data)
    yield from turned()


def turned() -> Iterator[Odd]:
    """One photograph in each of the eight ways that EXIF knows, as "orientation 1" to 8."""
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(photograph(), "jpeg", exif=exif)
        yield Odd(name=f"orientation {orientation}", suffix="jpg", data=data)


def everything() -> list[Odd]:
    """All of them, each under a name of its own."""
    return [*truncated(), *broken(), *odd()]

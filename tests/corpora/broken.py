"""Broken and odd images, each with what must become of it: the type of its error, or None if it decodes."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms


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


def truncated() -> Iterator[Odd]:
    """Files cut off at many places."""
    for image_format, options in (
        ("jpeg", {}),
        ("jpeg", {"progressive": True}),
        ("png", {}),
        ("webp", {}),
        ("gif", {}),
    ):
        data = encoded(photograph(), image_format, **options)
        kind = f"{image_format}{' progressive' if options else ''}"
        for share in (0.02, 0.1, 0.3, 0.5, 0.8, 0.95, 0.99):
            stop = max(int(len(data) * share), 1)
            yield Odd(name=f"{kind} cut at {share:.0%}", suffix=image_format, data=data[:stop], error="any")


def broken() -> Iterator[Odd]:
    """Files that are no images, or lie."""
    photo = encoded(photograph(), "jpeg")
    png = bytearray(encoded(photograph(), "png"))
    png[len(png) // 2] ^= 0xFF
    yield Odd(name="empty", suffix="jpg", data=b"", error="EmptyImageError")
    yield Odd(name="zeros", suffix="jpg", data=bytes(5000), error="UnknownFormatError")
    yield Odd(name="wrong magic", suffix="jpg", data=b"XX" + photo[2:], error="UnknownFormatError")
    yield Odd(name="a page", suffix="jpg", data=b"<!DOCTYPE html><html></html>", error="UnknownFormatError")
    yield Odd(
        name="svg",
        suffix="png",
        data=b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        error="UnknownFormatError",
    )
    yield Odd(name="text", suffix="jpg", data=b"not an image\n" * 100, error="UnknownFormatError")
    yield Odd(name="png bomb", suffix="png", data=png_of(60_000, 60_000), error="TooManyPixelsError")
    yield Odd(name="jpeg bomb", suffix="jpg", data=jpeg_of(65_000, 65_000), error="TooManyPixelsError")
    yield Odd(name="png with a wrong checksum", suffix="png", data=bytes(png), error="any")
    yield Odd(name="png without pixels", suffix="png", data=png_of(64, 64), error="any")
    yield Odd(
        name="text bomb",
        suffix="png",
        data=png_of(8, 8, (b"zTXt", b"c\0\0" + zlib.compress(bytes(99 << 20), 9)), pixels=bytes(8 * 25)),
        error="any",
    )
    yield Odd(
        name="float tiff",
        suffix="tif",
        data=encoded(Image.fromarray(np.zeros((9, 9), np.float32)), "tiff"),
        error="UnsupportedImageError",
    )
    yield Odd(
        name="gif without frames", suffix="gif", data=encoded(photograph(), "gif")[:13] + b";", error="any"
    )


def odd() -> Iterator[Odd]:
    """Images that are seldom, and decode."""
    photo = photograph()
    yield Odd(name="cmyk", suffix="jpg", data=encoded(photo.convert("CMYK"), "jpeg"))
    yield Odd(name="grey", suffix="jpg", data=encoded(photo.convert("L"), "jpeg"))
    yield Odd(name="progressive", suffix="jpg", data=encoded(photo, "jpeg", progressive=True))
    yield Odd(name="trailing garbage", suffix="jpg", data=encoded(photo, "jpeg") + b"garbage" * 100)
    yield Odd(name="palette", suffix="png", data=encoded(photo.quantize(16), "png"))
    yield Odd(
        name="palette with transparency",
        suffix="png",
        data=encoded(photo.quantize(16), "png", transparency=3),
    )
    yield Odd(name="one bit", suffix="png", data=encoded(photo.convert("1"), "png"))
    sixteen = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    yield Odd(name="sixteen bits", suffix="png", data=encoded(sixteen, "png"))
    alpha = photo.copy()
    alpha.putalpha(photo.convert("L"))
    yield Odd(name="alpha", suffix="png", data=encoded(alpha, "png"))
    yield Odd(name="grey with alpha", suffix="png", data=encoded(alpha.convert("LA"), "png"))
    frames = [photograph(seed=n) for n in range(3)]
    for image_format in ("gif", "webp", "png"):
        data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:])
        yield Odd(name=f"animated {image_format}", suffix=image_format, data=data)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield Odd(name=f"orientation {orientation}", suffix="jpg", data=encoded(photo, "jpeg", exif=exif))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    yield Odd(name="profile of another space", suffix="jpg", data=encoded(photo, "jpeg", icc_profile=profile))
    yield Odd(name="damaged profile", suffix="jpg", data=encoded(photo, "jpeg", icc_profile=b"\0" * 200))
    yield Odd(
        name="damaged exif", suffix="jpg", data=encoded(photo, "jpeg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    )
    for width, height in ((1, 1), (1, 300), (300, 1)):
        yield Odd(name=f"{width}x{height}", suffix="png", data=encoded(photo.resize((width, height)), "png"))


def everything() -> list[Odd]:
    """All of them, each under a name of its own."""
    return [*truncated(), *broken(), *odd()]

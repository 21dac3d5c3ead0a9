"""Encoded images in and out: what a prompt row names, and what a shard holds."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, field_validator
from typing_extensions import Buffer

from pipelines.config import Operational
from pipelines.decoding import PILLOW_MAX_PIXELS, ImageError
from pipelines.storage import Storage, StorageError, open_storage
from pipelines.web import PORTS, WebError, WebLimits, fetch

ImageFormat = Literal["png", "jpeg", "webp"]
SHOWN_PATH = 200
"""Characters of a path that an error repeats: some tables hold whole images as text."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def encode_image(pixels: NDArray[np.uint8], image_format: ImageFormat, quality: int) -> bytes:
    """Pixels [H, W, 3] -> an encoded image. `quality` is for jpeg and webp, 1 to 100."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"png": {"compress_level": 6}}.get(image_format, {"quality": quality})
    Image.fromarray(pixels).save(buffer, format=image_format, **options)
    return buffer.getvalue()


class RowImages(WebLimits):
    """Which images the rows of a table may name, and how large these may be.

    Whoever wrote the table need not be trusted with what the job itself may read. Its rows may name files in
    the table's folder and in `folders`, and http(s) URLs within the limits of `pipelines.web`.

    Attributes:
        max_bytes: Of an encoded image, wherever it comes from.
        max_pixels: Of an image, by its header; more is not decoded.
        folders: Further folders that rows may name files in: absolute paths or URIs. A URI has the options
            of its server, if it needs any; a row cannot have some.
    """

    max_pixels: int = Field(default=1 << 26, ge=1, le=PILLOW_MAX_PIXELS)
    folders: Annotated[tuple[str, ...], Operational()] = ()

    @field_validator("folders")
    @classmethod
    def _absolute(cls, folders: tuple[str, ...]) -> tuple[str, ...]:
        if relative := [folder for folder in folders if "://" not in folder and not folder.startswith("/")]:
            raise ValueError(f"'{relative[0]}' must be an absolute path: workers have folders of their own")
        return folders


def image_bytes(value: dict[str, Any], folder_uri: str, limits: RowImages) -> bytes:
    """The encoded bytes of an image struct: its own, or those that its path names.

    Args:
        value: The struct. Its path is relative to `folder_uri`, absolute, or a URI: in `folder_uri` or one of
            `limits.folders`, with links followed. Or it is an http or https URL.
        folder_uri: The folder of the table that the struct is from.
        limits: What it may name.

    Raises:
        ImageError: It has neither, what its path names is not allowed or cannot be read, or it is too large.
    """
    if value["bytes"]:
        _check_size(len(value["bytes"]), limits)
        return bytes(value["bytes"])
    path = value["path"]
    if not path:
        raise ImageError("neither bytes nor a path")
    try:
        return _read(path, folder_uri, limits)
    except (ImageError, WebError) as error:
        raise ImageError(f"{_shown(path)}: {error}") from error
    except (StorageError, OSError) as error:
        raise ImageError(f"{_shown(path)}: cannot read it ({type(error).__name__})") from error


def image_id(data: Buffer) -> str:
    """SHA-256 of the encoded bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _read(path: str, folder_uri: str, limits: RowImages) -> bytes:
    if path.partition("://")[0].lower() in PORTS:
        return fetch(path, limits)
    storage, name = _located(path, [folder_uri, *limits.folders])
    _check_size(storage.size(name), limits)
    return storage.read(name)


def _located(path: str, folders: Sequence[str]) -> tuple[Storage, str]:
    """The storage of the allowed folder that a path lies in, and its name there.

    The storage is always one that the job's own configuration names: a row chooses neither a server nor the
    credentials for it.
    """
    if _CONTROL.search(path):
        raise ImageError("a path with control characters")
    if ".." in path.split("/"):
        raise ImageError("a path with '..'; name the file by the folder that it is in")
    if "://" in path and "?" in path:
        raise ImageError("a URI with options; those of a folder in row_images.folders apply to its files")
    storages = [open_storage(folder) for folder in folders]
    starts = [_real(storage.uri_of("")).rstrip("/") + "/" for storage in storages]
    if path.startswith("file:///"):
        path = unquote(path.removeprefix("file://"))
    file = _real(path if "://" in path or path.startswith("/") else starts[0] + path)
    for storage, start in zip(storages, starts, strict=True):
        if file.startswith(start):
            return storage, file.removeprefix(start)
    raise ImageError("not in the table's folder, nor in one of row_images.folders")


def _real(path: str) -> str:
    """A local path with its links followed; URIs are left alone."""
    return os.path.realpath(path) if path.startswith("/") else path


def _check_size(num_bytes: int, limits: RowImages) -> None:
    if num_bytes > limits.max_bytes:
        raise ImageError(f"{num_bytes} bytes; the limit is {limits.max_bytes}, which is max_bytes")


def _shown(path: str) -> str:
    return path if len(path) <= SHOWN_PATH else f"{path[:SHOWN_PATH]}…"

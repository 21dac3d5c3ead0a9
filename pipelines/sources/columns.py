"""Which column of a table has what, by the names that published data sets use.

Names are compared in lower case; the exact name goes before others that differ in case (LAION has `URL` and
`TEXT`, COYO `url` and `text`). Of several aliases the first that the table has is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from pipelines.arrow_types import is_bytes, is_text
from pipelines.sources.interface import SourceError
from pipelines.sources.settings import ColumnNames

IMAGE = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "img_bytes", "bytes")
"""Structs of bytes and path as of Hugging Face datasets; bytes, which img2dataset names by their format."""
URL = ("url", "image_url", "img_url")
PATH = ("image_path", "file_name", "filename", "file_path", "filepath", "image_file", "image_name", "path")
CAPTION = ("caption", "top_caption", "text", "prompt")
"""LAION-COCO has `top_caption` beside the alternative text, DiffusionDB and our own generations `prompt`."""
UID = ("uid", "sample_id")
KEY = ("key", "__key__", "sample_id", "id")
SHA256, MD5 = ("sha256",), ("md5",)

ImageKind = Literal["struct", "bytes", "path", "url", "member"]
"""Of a column: images, or what names them; "member" is a sample's key in the tar beside the table."""


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The columns of one table that have a meaning here, by name.

    Attributes:
        image: The images, or where they are.
        kind: Which of these it is.
        caption: Captions.
        uid: 128-bit ids.
        key: Names.
        sha256: SHA-256 of the images, for those that are fetched.
        md5: Likewise.
    """

    image: str
    kind: ImageKind
    caption: str | None
    uid: str | None
    key: str | None
    sha256: str | None
    md5: str | None

    def passes_through(self, name: str) -> bool:
        """Whether a column goes into the output as it is; a uid does, for it need not be a 128-bit id."""
        return name not in (self.image, self.caption, self.key)


def find_roles(schema: pa.Schema, settings: ColumnNames, where: str, has_tar: bool = False) -> Roles:
    """The roles of a table's columns.

    Args:
        schema: The table's.
        settings: Names that the user gave.
        where: The table, for messages.
        has_tar: Whether the images may be in a tar beside it.

    Raises:
        SourceError: No column has images, two have one name, or a name given is not there or of no use.
    """
    if repeated := sorted({name for name in schema.names if schema.names.count(name) > 1}):
        raise SourceError(f"{where}: two columns '{repeated[0]}'; rename one of them")
    image, kind = _image(schema, settings, where, has_tar)

    def find(name: str | None, setting: str, aliases: Sequence[str]) -> str | None:
        if name is None:
            return _first(schema, aliases, is_text)
        return _named(schema, name, setting, is_text, where)

    return Roles(
        image=image,
        kind=kind,
        caption=find(settings.caption, "caption", CAPTION),
        uid=find(settings.uid, "uid", UID),
        key=_named(schema, settings.key, "key", is_name, where)
        if settings.key
        else _first(schema, KEY, is_name),
        sha256=_first(schema, SHA256, is_text),
        md5=_first(schema, MD5, is_text),
    )


def is_name(kind: pa.DataType) -> bool:
    """Whether values may name an image."""
    return is_text(kind) or bool(pa.types.is_integer(kind))


def _is_struct(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    fields = {field.name: field.type for field in kind}
    has_bytes = "bytes" in fields and is_bytes(fields["bytes"])
    return has_bytes or ("path" in fields and is_text(fields["path"]))


def _is_image(kind: pa.DataType) -> bool:
    return _is_struct(kind) or is_bytes(kind) or is_text(kind)


def _image(schema: pa.Schema, settings: ColumnNames, where: str, has_tar: bool) -> tuple[str, ImageKind]:
    if settings.image is not None:
        name = _named(schema, settings.image, "image", _is_image, where)
        return name, _kind(schema.field(name).type)
    if settings.url is not None:
        return _named(schema, settings.url, "url", is_text, where), "url"
    if image := _first(schema, IMAGE, _is_image):
        return image, _kind(schema.field(image).type)
    if has_tar and (key := _first(schema, KEY, is_text)):
        return key, "member"
    if url := _first(schema, URL, is_text):
        return url, "url"
    if path := _first(schema, PATH, is_text):
        return path, "path"
    raise SourceError(
        f"{where}: no column of images, their paths or URLs; columns are {', '.join(schema.names)}; set "
        "source.columns.image or source.columns.url"
    )


def _kind(kind: pa.DataType) -> ImageKind:
    if _is_struct(kind):
        return "struct"
    return "path" if is_text(kind) else "bytes"


def _named(
    schema: pa.Schema, name: str, setting: str, fits: Callable[[pa.DataType], bool], where: str
) -> str:
    if name not in schema.names:
        raise SourceError(
            f"{where}: no column '{name}', which source.columns.{setting} names; columns are "
            f"{', '.join(schema.names)}"
        )
    if not fits(schema.field(name).type):
        raise SourceError(
            f"{where}: column '{name}' is of type {schema.field(name).type}; source.columns.{setting} must "
            "name another"
        )
    return name


def _first(schema: pa.Schema, aliases: Sequence[str], fits: Callable[[pa.DataType], bool]) -> str | None:
    """The first alias that the table has with a type that fits, in whatever case."""
    for alias in aliases:
        candidates: list[str] = sorted(name for name in schema.names if name.lower() == alias)
        for name in sorted(candidates, key=lambda name: name != alias):
            if fits(schema.field(name).type):
                return name
    return None

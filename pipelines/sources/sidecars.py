"""What stands beside an image: its caption in a `.txt`, facts about it in a `.json`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipelines.sources.columns import CAPTION, UID
from pipelines.sources.interface import CaptionError, MetadataError
from pipelines.sources.rows import Row
from pipelines.sources.settings import JsonType, SourceSettings

IMAGE_SUFFIXES = frozenset(
    {
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff", "avif", "avifs"),
        *("ppm", "pgm", "pbm", "pnm", "heic", "heif", "jxl", "jp2"),
    }
)
"""Of image files, lower case. Those that cannot be decoded become dead letters, and are not overlooked."""
JSON_COLUMN = "json"
JSON_TYPES: Mapping[JsonType, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
}


def sidecar_fields(json_columns: Mapping[str, JsonType]) -> list[pa.Field]:
    """The columns that `.json` files make."""
    lifted = [pa.field(name, JSON_TYPES[kind]) for name, kind in sorted(json_columns.items())]
    return [*lifted, pa.field(JSON_COLUMN, pa.string())]


def take_sidecars(
    row: Row, text: bytes | None, about: bytes | None, settings: SourceSettings
) -> dict[str, Any]:
    """Put caption and uid into a row; gives its values of `sidecar_fields`.

    The caption is that of the `.txt`, else of the `.json`. What is wrong with one becomes the row's fault.
    """
    values: dict[str, Any] = {}
    try:
        if about is not None:
            values[JSON_COLUMN], facts = parse_about(about, settings.max_json_bytes)
            for name, kind in settings.json_columns.items():
                values[name] = _typed(facts.get(name), kind)
            row.uid, row.caption = first_text(facts, UID), first_text(facts, CAPTION)
    except MetadataError as error:
        row.fail(error)
    try:
        if text is not None:
            row.caption = parse_caption(text, settings.max_caption_bytes)
        elif row.caption is not None:
            check_caption(row.caption, settings.max_caption_bytes)
    except CaptionError as error:
        row.caption = None
        row.fail(error)
    return values


def parse_caption(data: bytes, max_bytes: int) -> str:
    """The caption in a `.txt`, without white space around it.

    Raises:
        CaptionError: It is too long or not UTF-8.
    """
    if len(data) > max_bytes:
        raise caption_too_long(len(data), max_bytes)
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise CaptionError("caption is not UTF-8") from error


def check_caption(caption: str, max_bytes: int) -> None:
    """That a text may be a caption.

    Raises:
        CaptionError: It is too long, or has halves of characters, as JSON can write them.
    """
    try:
        num_bytes = len(caption.encode())
    except UnicodeEncodeError as error:
        raise CaptionError("caption is not UTF-8") from error
    if num_bytes > max_bytes:
        raise caption_too_long(num_bytes, max_bytes)


def parse_about(data: bytes, max_bytes: int) -> tuple[str, dict[str, Any]]:
    """The text of a `.json`, and the object in it.

    Raises:
        MetadataError: It is too long, not UTF-8, or not a JSON object.
    """
    if len(data) > max_bytes:
        raise json_too_long(len(data), max_bytes)
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(text)
    except UnicodeDecodeError as error:
        raise MetadataError(".json is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise MetadataError(".json is not JSON") from error
    if not isinstance(value, dict):
        raise MetadataError(f".json holds a {type(value).__name__} and not an object")
    return text, value


def first_text(facts: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first text among the values of these keys, in whatever case the keys are; exact names go first."""
    folded = {key.lower(): value for key, value in reversed([*facts.items()])}
    for name in names:
        for value in (facts.get(name), folded.get(name)):
            if isinstance(value, str):
                return value
    return None


def _typed(value: Any, kind: JsonType) -> Any:
    """The value where it is of that type; None otherwise."""
    if kind == "string":
        return value if isinstance(value, str) and _encodes(value) else None
    if kind == "bool":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if kind == "float64":
        return float(value) if abs(value) < 1e308 else None
    return int(value) if value == value // 1 and abs(value) < 1 << 63 else None


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def caption_too_long(num_bytes: int, limit: int) -> CaptionError:
    """The error of a caption of so many bytes."""
    return CaptionError(f"caption has {num_bytes} bytes; the limit is {limit}, which is max_caption_bytes")


def json_too_long(num_bytes: int, limit: int) -> MetadataError:
    """The error of a `.json` file of so many bytes."""
    return MetadataError(f".json has {num_bytes} bytes; the limit is {limit}, which is max_json_bytes")

"""Write WebDataset shards: equal samples give equal bytes."""

import io
import json
import math
import tarfile
from collections.abc import Iterable
from typing import Any


def tar_bytes(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A tar of these files, name and content, in order; its times and owners are zero."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def json_member(row: dict[str, Any]) -> bytes:
    """The `.json` of a sample: dates, decimals and others that JSON has not as text, bytes as hexadecimal."""
    return json.dumps(_plain(row), sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)

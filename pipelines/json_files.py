"""Read the JSON objects of a run's folder."""

import json
from typing import Any

from pipelines.storage import StorageError


def parse_json(data: bytes, uri: str) -> dict[str, Any]:
    """The JSON object in `data`; StorageError with the URI when there is none."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise StorageError(
            f"{uri}: not JSON ({error}); it was damaged or written by another program"
        ) from error
    if not isinstance(value, dict):
        raise StorageError(f"{uri}: not a JSON object; it was damaged or written by another program")
    return value

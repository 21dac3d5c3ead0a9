"""A dataset's manifest: what every reader of shards starts from.

    {"format": "meissonic-manifest-1", "job": "generate", "units": 3,
     "rows_in": 300, "rows_done": 298, "rows_failed": 2, "rows_out": 298,
     "objects": [{"path", "rows", "sha256", "size"}, ...],
     "failed": {"objects": [...]}}

`objects` are the data, `failed` the dead letters. Paths are relative to the manifest's folder. Where there
are more than 10 000 objects, `parts` stands for `objects`: each part is a JSON file `{"objects": [...]}`.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = "meissonic-manifest-1"
PART_OBJECTS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectEntry:
    """One object and what it must be.

    Attributes:
        path: Path relative to the dataset's folder.
        rows: Rows or samples in it.
        sha256: Of its bytes, in hexadecimal.
        size: Its bytes.
    """

    path: str
    rows: int
    sha256: str
    size: int

    @classmethod
    def of(cls, path: str, data: bytes, rows: int) -> "ObjectEntry":
        """The entry that describes these bytes."""
        return cls(path=path, rows=rows, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def json_bytes(value: Any) -> bytes:
    """Compact JSON with sorted keys: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def section(
    name: str, entries: Iterable[ObjectEntry], part_objects: int = PART_OBJECTS
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The list of objects of a manifest, whole or in parts.

    Returns:
        `{"objects": …}` or `{"parts": …}`, and the part files that it names (none where it fits in one).
    """
    objects = [asdict(entry) for entry in entries]
    if len(objects) <= part_objects:
        return {"objects": objects}, {}
    files = {}
    for number, start in enumerate(range(0, len(objects), part_objects)):
        chunk = objects[start : start + part_objects]
        files[f"manifest/{name}-{number:05d}.json"] = json_bytes({"objects": chunk})
    parts = [asdict(ObjectEntry.of(path, data, part_objects)) for path, data in files.items()]
    parts[-1]["rows"] = len(objects) - part_objects * (len(parts) - 1)
    return {"parts": parts}, files

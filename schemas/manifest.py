"""A dataset's manifest: what every reader of shards starts from.

    {"format": "meissonic-manifest-1", "job": "generate", "units": 3, "rows_in": 300, "rows_done": 298,
     "data": {"rows": 298, "size": 9000, "objects": [{"path", "rows", "sha256", "size"}, ...]},
     "failed": {"rows": 2, "size": 900, "objects": [...]}}

Paths are relative to the manifest's folder. A section of more than 10 000 objects names `parts` instead of
`objects`: each part is a JSON file `{"objects": [...]}` of its own.
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
) -> tuple[Any, dict[str, bytes]]:
    """One section of a manifest.

    Returns:
        The section's JSON value, and the part files that it names (none where it fits in one).
    """
    objects = [asdict(entry) for entry in entries]
    totals = {"rows": sum(o["rows"] for o in objects), "size": sum(o["size"] for o in objects)}
    if len(objects) <= part_objects:
        return totals | {"objects": objects}, {}
    files = {}
    for number, start in enumerate(range(0, len(objects), part_objects)):
        chunk = objects[start : start + part_objects]
        files[f"manifest/{name}-{number:05d}.json"] = json_bytes({"objects": chunk})
    parts = [asdict(ObjectEntry.of(path, data, part_objects)) for path, data in files.items()]
    parts[-1]["rows"] = len(objects) - part_objects * (len(parts) - 1)
    return totals | {"parts": parts}, files

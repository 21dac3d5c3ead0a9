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
from dataclasses import dataclass
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

    def to_json(self) -> dict[str, Any]:
        """The entry as it stands in manifests."""
        return {"path": self.path, "rows": self.rows, "sha256": self.sha256, "size": self.size}


def json_bytes(value: Any) -> bytes:
    """Compact JSON with sorted keys: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


class Section:
    """The list of objects of a manifest while it is made: whole, or in parts where it is long.

    Args:
        name: The first part of the part files' names.
        part_objects: Objects to hold before they become a part.
    """

    def __init__(self, name: str, part_objects: int = PART_OBJECTS) -> None:
        self._name, self._part_objects = name, part_objects
        self._objects: list[dict[str, Any]] = []
        self._parts: list[dict[str, Any]] = []

    def add(self, entry: ObjectEntry) -> tuple[str, bytes] | None:
        """Name one more object; gives path and bytes of the part that is full, where it makes one."""
        full = self._part() if len(self._objects) == self._part_objects else None
        self._objects.append(entry.to_json())
        return full

    def end(self) -> tuple[dict[str, Any], tuple[str, bytes] | None]:
        """`{"objects": …}` or `{"parts": …}`, and with these the last part's path and bytes."""
        if not self._parts:
            return {"objects": self._objects}, None
        last = self._part()
        return {"parts": self._parts}, last

    def _part(self) -> tuple[str, bytes]:
        """A full part; with other objects it has another name, so that a manifest's parts never change."""
        data = json_bytes({"objects": self._objects})
        digest = hashlib.sha256(data).hexdigest()[:12]
        path = f"manifest/{self._name}-{len(self._parts):05d}-{digest}.json"
        self._parts.append(ObjectEntry.of(path, data, len(self._objects)).to_json())
        self._objects = []
        return path, data

"""A unit's commit record: the proof that the unit is done, and the names of all that it made."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.errors import LedgerError
from pipelines.json_files import parse_json
from pipelines.storage import Storage
from schemas.manifest import ObjectEntry, json_bytes

FORMAT = "meissonic-commit-1"
COMMITS = "commits/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """What a unit made, and how it went.

    Attributes:
        unit: The unit's id.
        rows_in: Input rows.
        rows_done: Input rows with at least one result.
        rows_failed: Input rows that became dead letters.
        rows_out: Result rows.
        row_ids_sha256: `row_ids_digest` of the input rows' ids.
        outputs: The data objects.
        failed: The object of dead letters, where there are any.
        failures: Dead letters by "stage: error type".
        seconds: Where the time went, by stage.
        events: What the worker noted, such as memory that ran out, and how often.
        attempts: Times that a worker began the unit in the run that finished it.
        host: Node that committed it.
        started_at: Unix time when the unit was read, in seconds.
        committed_at: Unix time of the commit, in seconds.
        code_version: Of the program that made it.
    """

    unit: str
    rows_in: int
    rows_done: int
    rows_failed: int
    rows_out: int
    row_ids_sha256: str
    outputs: tuple[ObjectEntry, ...]
    failed: ObjectEntry | None
    failures: dict[str, int]
    seconds: dict[str, float]
    events: dict[str, int]
    attempts: int
    host: str
    started_at: float
    committed_at: float
    code_version: str

    def same_result(self, other: "Commit") -> bool:
        """Whether both name the same bytes for the same rows, however they came to be."""
        return all(getattr(self, name) == getattr(other, name) for name in _RESULT)

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON value."""
        return {"format": FORMAT} | asdict(self)

    def to_bytes(self) -> bytes:
        """The record as a file."""
        return json_bytes(self.to_json())

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Commit":
        """The record in a parsed file; KeyError or TypeError where it is not one."""
        fields = {name: item for name, item in value.items() if name != "format"}
        fields["outputs"] = tuple(ObjectEntry(**entry) for entry in value["outputs"])
        fields["failed"] = None if value["failed"] is None else ObjectEntry(**value["failed"])
        return cls(**fields)


def commit_path(unit_id: str) -> str:
    """Where a unit's commit record is."""
    return f"{COMMITS}{unit_id}.json"


def read_commit(storage: Storage, unit_id: str) -> Commit:
    """One unit's commit record.

    Raises:
        ObjectMissingError: The unit is not done.
        LedgerError: What is there is no commit record.
    """
    path = commit_path(unit_id)
    value = parse_json(storage.read(path), storage.uri_of(path))
    try:
        return Commit.from_json(value)
    except (KeyError, TypeError) as error:
        raise LedgerError(
            f"{storage.uri_of(path)}: not a commit record ({error}); "
            "delete it to have the unit computed again"
        ) from error


def row_ids_digest(ids: Iterable[str]) -> str:
    """SHA-256 over the distinct ids in order, in hexadecimal: equal for equal sets."""
    return hashlib.sha256("\n".join(sorted(set(ids))).encode()).hexdigest()


_RESULT = ("unit", "rows_in", "rows_done", "rows_failed", "rows_out", "row_ids_sha256", "outputs", "failed")

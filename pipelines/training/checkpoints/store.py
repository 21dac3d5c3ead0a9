"""The checkpoints in a stage's folder: which are complete, what they hold, which may go.

checkpoints/step-00000100.json      the record, written last: without it there is no checkpoint
checkpoints/step-00000100/ATTEMPT/  the files; each attempt to save a step has a folder of its own
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from pipelines.errors import RefusalError
from pipelines.json_files import parse_json
from pipelines.storage import ObjectMissingError, Storage, StoredObject
from schemas.manifest import ObjectEntry, json_bytes

CHECKPOINTS = "checkpoints/"
FORMAT = "meissonic-checkpoint-1"
_PATH = re.compile(rf"{CHECKPOINTS}step-(\d{{8,}})(\.json|/.+)")
_log = logging.getLogger(__name__)


class CheckpointStoreError(RefusalError):
    """A checkpoint that is not there, is damaged, or cannot be written; the message says which."""


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """What a complete checkpoint consists of.

    Attributes:
        step: Optimizer steps that were done.
        files: Its files, with paths relative to the stage's folder.
        world_size: Workers that wrote it.
    """

    step: int
    files: tuple[ObjectEntry, ...]
    world_size: int

    @classmethod
    def from_json(cls, value: dict[str, Any], uri: str) -> Self:
        """The record in the JSON object at `uri`.

        Raises:
            CheckpointStoreError: It is no record.
        """
        if value.get("format") != FORMAT:
            raise CheckpointStoreError(
                f"{uri}: format is {value.get('format')!r}, not '{FORMAT}'; name the record of a checkpoint"
            )
        return cls(
            step=value["step"],
            files=tuple(ObjectEntry(**entry) for entry in value["files"]),
            world_size=value["world_size"],
        )

    def to_json(self) -> dict[str, Any]:
        """The record as it is stored."""
        return {
            "format": FORMAT,
            "step": self.step,
            "files": [entry.to_json() for entry in self.files],
            "world_size": self.world_size,
        }


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of a stage; small and picklable.

    Attributes:
        storage: The stage's folder.
    """

    storage: Storage

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, ascending."""
        return sorted(step for step, entry in self._listed() if entry.path == record_path(step))

    def newest(self) -> int | None:
        """The last complete checkpoint's step; None where there is none."""
        return max(self.steps(), default=None)

    def record(self, step: int) -> CheckpointRecord:
        """What the checkpoint of that step consists of.

        Raises:
            CheckpointStoreError: There is none, or its record is damaged.
        """
        path = record_path(step)
        uri = self.storage.uri_of(path)
        try:
            return CheckpointRecord.from_json(parse_json(self.storage.read(path), uri), uri)
        except ObjectMissingError as error:
            steps = ", ".join(map(str, self.steps())) or "none"
            raise CheckpointStoreError(
                f"{uri}: no such checkpoint; complete are those of the steps: {steps}"
            ) from error

    def commit(self, record: CheckpointRecord) -> None:
        """Make a checkpoint complete, whose files are all there.

        Where another attempt has completed that step, its checkpoint stays and this one's files are garbage.
        """
        path, data = record_path(record.step), json_bytes(record.to_json())
        # after a lost answer the storage may find this very record there
        if not self.storage.create(path, data) and self.storage.read(path) != data:
            _log.warning(
                "%s: another attempt has saved this step already; does a second job write here?",
                self.storage.uri_of(path),
            )

    def delete(self, step: int) -> None:
        """Remove a checkpoint: first its record, then its files."""
        files = self.record(step).files
        self.storage.delete(record_path(step))
        for entry in files:
            self.storage.delete(entry.path)

    def collect(self, keep_last: int, keep_every: int | None = None) -> list[int]:
        """Delete old checkpoints, and the files that killed attempts left behind.

        The files of an attempt on a step past the newest checkpoint stay: it may be under way.

        Args:
            keep_last: So many of the newest stay.
            keep_every: Those of every so many steps stay besides.

        Returns:
            The steps whose checkpoints were deleted.
        """
        steps = self.steps()
        kept = {*steps[-keep_last:], *(step for step in steps if keep_every and step % keep_every == 0)}
        deleted = [step for step in steps if step not in kept]
        for step in deleted:
            self.delete(step)
        for path in self._unnamed():
            self.storage.delete(path)
        return deleted

    def _unnamed(self) -> list[str]:
        """Files that no record names, and that are older than the newest record and not of a later step."""
        found = list(self._listed())
        records = {step: entry for step, entry in found if entry.path == record_path(step)}
        if not records:
            return []
        newest = max(records)
        old = [
            (step, entry.path)
            for step, entry in found
            if entry.path != record_path(step)
            and step <= newest
            and entry.modified_at < records[newest].modified_at
        ]
        # asked for by name: a listing may lag behind
        named = {entry.path for step in {step for step, _ in old} for entry in self._files_of(step)}
        return [path for _, path in old if path not in named]

    def _files_of(self, step: int) -> tuple[ObjectEntry, ...]:
        if not self.storage.exists(record_path(step)):
            return ()
        return self.record(step).files

    def _listed(self) -> Iterator[tuple[int, StoredObject]]:
        for entry in self.storage.list(CHECKPOINTS):
            if match := _PATH.fullmatch(entry.path):
                yield int(match[1]), entry


def record_path(step: int) -> str:
    """Where the record of a step's checkpoint is, below the stage's folder."""
    return f"{CHECKPOINTS}step-{step:08d}.json"


def files_path(step: int, attempt: str) -> str:
    """Where an attempt to save a step puts its files; ends with "/"."""
    return f"{CHECKPOINTS}step-{step:08d}/{attempt}/"

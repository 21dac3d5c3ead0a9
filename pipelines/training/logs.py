"""The measures of a stage: JSON lines in its folder, and what trackers make of them.

    log/00000000.jsonl   one object a line, with `step` and `kind`: step, rate, masking_rate,
                         validation, samples

A file begins at each checkpoint and is named by its step. A run that goes on from a checkpoint drops the
files from there on, so that together they tell each step once.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.storage import ObjectMissingError, Storage, open_storage

if TYPE_CHECKING:
    from pipelines.training.trackers import Tracker  # imports Ray, which readers do not need

LOG, SAMPLES = "log/", "samples/"
_FLUSH_S = 10.0


class TrainingLog:
    """What the first worker writes."""

    def __init__(self, storage: Storage, first_step: int, trackers: Sequence[Tracker]) -> None:
        self._storage, self._trackers = storage, trackers
        for entry in list(storage.list(LOG)):
            if int(PurePosixPath(entry.path).stem) >= first_step:
                storage.delete(entry.path)
        self._begin(first_step)

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One line; its numbers go to the trackers as `kind/name`, those of a group as `kind/group/name`."""
        self._lines.append(json.dumps({"kind": kind, "step": step} | values))
        measures = dict(_numbers(kind, values))
        for tracker in self._trackers:
            tracker.write(step, measures)
        if time.monotonic() - self._flushed_at > _FLUSH_S:
            self.flush()

    def picture(self, step: int, pixels: NDArray[np.uint8]) -> None:
        """Samples of a step, RGB, uint8 [height, width, 3]: `samples/STEP.png`."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png")
        self._storage.write(f"{SAMPLES}{step:08d}.png", buffer.getvalue())
        for tracker in self._trackers:
            tracker.picture(step, "samples", pixels)

    def cut(self, step: int) -> None:
        """Begin another file: a checkpoint of this step is being written."""
        self.flush()
        self._begin(step)

    def flush(self) -> None:
        """Write the lines to the storage."""
        if self._lines:
            self._storage.write(self._path, ("\n".join(self._lines) + "\n").encode())
        for tracker in self._trackers:
            tracker.flush()
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Write what is left."""
        self.flush()
        for tracker in self._trackers:
            tracker.close()

    def _begin(self, step: int) -> None:
        self._path, self._lines, self._flushed_at = f"{LOG}{step:08d}.jsonl", list[str](), time.monotonic()


def read_log(stage_uri: str) -> Iterator[dict[str, Any]]:
    """The lines of a stage, in the order of its steps."""
    storage = open_storage(stage_uri)
    for entry in storage.list(LOG):
        try:
            lines = storage.read(entry.path).decode().splitlines()
        except ObjectMissingError:  # dropped since it was listed: a run goes on from a checkpoint before it
            continue
        yield from map(json.loads, lines)


def _numbers(prefix: str, values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(f"{prefix}/{name}", value)
        elif isinstance(value, int | float):
            yield f"{prefix}/{name}", value

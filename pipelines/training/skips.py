"""Batches that are left out: their loss or gradient was not finite.

Each is an object of the run, so that a run that is killed afterwards goes on without them too.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

from pipelines.errors import RefusalError
from pipelines.json_files import parse_json
from pipelines.storage import Storage
from schemas.manifest import json_bytes

SKIPS = "skips/"


class NotFiniteError(Exception):
    """A step's loss or gradient is not finite.

    Attributes:
        step: The step, from 0.
        index: Of its batch in the order of the data.
        loss: What it was.
        grad_norm: What it was.
    """

    def __init__(self, *, step: int, index: int, loss: float, grad_norm: float) -> None:
        super().__init__(f"step {step}, batch {index}: loss {loss}, norm of the gradient {grad_norm}")
        self.step, self.index, self.loss, self.grad_norm = step, index, loss, grad_norm


class DivergedError(RefusalError):
    """Losses or gradients were not finite too often."""


def read_skips(storage: Storage) -> frozenset[int]:
    """Indices of the batches that the run leaves out."""
    paths = [entry.path for entry in storage.list(SKIPS)]
    return frozenset(parse_json(storage.read(path), storage.uri_of(path))["index"] for path in paths)


def write_skip(storage: Storage, fault: NotFiniteError) -> None:
    """Leave out the batch from now on."""
    facts = {
        "index": fault.index,
        "step": fault.step,
        "loss": str(fault.loss),  # JSON knows no NaN
        "grad_norm": str(fault.grad_norm),
    }
    storage.create(f"{SKIPS}{fault.index:010d}.json", json_bytes(facts))


def data_indices(first_step: int, skipped: Collection[int]) -> Iterator[int]:
    """The batch of each step from `first_step` on: step s has the s-th that is not left out."""
    kept = (index for index in itertools.count() if index not in skipped)
    return itertools.islice(kept, first_step, None)

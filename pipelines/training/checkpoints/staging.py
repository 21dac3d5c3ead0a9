"""What a worker copies to the CPU and to its disk before it goes to the storage."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock
from torch import Tensor
from torch.distributed.tensor import DTensor

from pipelines.models import cache_folder


def own_share(state: Mapping[str, Any], rank: int, world_size: int) -> dict[str, Any]:
    """What this rank saves of a state: its shards, and of the tensors that all ranks hold whole its part.

    Without this every rank would copy all of a replicated model to the CPU, and then write its part of it.
    All ranks must hold the same names in the same order.
    """
    loads = [0] * world_size

    def is_own(value: object) -> bool:
        if not isinstance(value, Tensor) or isinstance(value, DTensor):
            return True
        owner = loads.index(min(loads))
        loads[owner] += value.nbytes
        return owner == rank

    def select(values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: select(value) if isinstance(value, Mapping) else value
            for name, value in values.items()
            if isinstance(value, Mapping) or is_own(value)
        }

    return select(state)


class StagingFolder:
    """A folder of this process on the node's disk, in the cache; what killed processes left goes first."""

    def __init__(self) -> None:
        place = cache_folder() / "staging"
        place.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(place / "lock"):
            for left in place.iterdir():
                if left.is_dir():
                    _remove_unheld(left)
            self._folder = Path(tempfile.mkdtemp(dir=place))
            self._held = _lock_of(self._folder)
            self._held.acquire()

    def fresh(self) -> Path:
        """An empty folder for one checkpoint; the one before is removed."""
        path = self._folder / "files"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def close(self) -> None:
        """Remove the folder."""
        self._held.release()
        shutil.rmtree(self._folder, ignore_errors=True)


def _lock_of(folder: Path) -> filelock.BaseFileLock:
    # the system releases it however the process ends
    return filelock.FileLock(folder / "held")


def _remove_unheld(folder: Path) -> None:
    try:
        with _lock_of(folder).acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
    except filelock.Timeout:  # in use
        return

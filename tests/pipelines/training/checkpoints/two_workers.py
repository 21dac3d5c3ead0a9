"""What two workers do, each in a process of its own: save and load with DDP and FSDP2, and fail.

Each leaves what it saw in a file: tests compare them.
"""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from pipelines.storage.local import LocalStorage
from pipelines.training.checkpoints import Checkpointer, CheckpointStore
from pipelines.training.state import restore_state
from tests.pipelines.training.checkpoints.toys import DyingStorage, Toy, ToyTraining

WRAPPERS = ("ddp", "fsdp")


def work(rank: int, root: Path) -> None:
    """All that worker `rank` does in `root`, where "single" has the checkpoint of one worker."""
    os.environ["MEISSONIC_CACHE"] = str(root / "cache")
    torch.set_num_threads(1)
    store = dist.FileStore(str(root / "rendezvous"), 2)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    try:
        for name in WRAPPERS:
            _save(rank, root, name)
            _load(rank, root, name)
        _fail(rank, root)
    finally:
        dist.destroy_process_group()


def parallelise(name: str) -> Any:
    def wrap(model: Toy) -> nn.Module:
        if name == "ddp":
            return DistributedDataParallel(model)
        for layer in model.transformer:
            fully_shard(layer)
        fully_shard(model)
        return model

    return wrap


def _checkpointer(rank: int, storage: LocalStorage) -> Checkpointer:
    return Checkpointer(store=CheckpointStore(storage), rank=rank, world_size=2)


def _save(rank: int, root: Path, name: str) -> None:
    training = ToyTraining(seed=1, parallelise=parallelise(name))
    training.train(2)
    with _checkpointer(rank, LocalStorage(str(root / name))) as checkpointer:
        checkpointer.save(step=2, state=training.state())
    _keep(rank, training, root / f"saved-{name}.pt")


def _load(rank: int, root: Path, name: str) -> None:
    training = ToyTraining(seed=3, parallelise=parallelise(name))
    state = training.state()
    with _checkpointer(rank, LocalStorage(str(root / "single"))) as checkpointer:
        checkpointer.load(step=2, state=state)
    restore_state(training.module, training.optimizer, training.average, state)
    _keep(rank, training, root / f"loaded-{name}.pt")


def _keep(rank: int, training: ToyTraining, path: Path) -> None:
    state = training.whole_state()
    if rank == 0:
        torch.save(state, path)


def _fail(rank: int, root: Path) -> None:
    """Only worker 1 cannot write."""
    place = str(root / "failed")
    storage = DyingStorage(place, 0, "before") if rank == 1 else LocalStorage(place)
    errors = []
    checkpointer = _checkpointer(rank, storage)
    checkpointer.save(step=2, state=ToyTraining(seed=1).state())
    for end in (checkpointer.wait, lambda: checkpointer.load(step=7, state={})):
        try:
            end()
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    checkpointer.close()
    (root / f"errors-{rank}.json").write_text(json.dumps(errors))

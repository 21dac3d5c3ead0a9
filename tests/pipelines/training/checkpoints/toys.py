"""A small module with a frozen part, trained by AdamW, and storages that stop."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from pipelines.storage import Storage
from pipelines.storage.local import LocalStorage
from pipelines.training.checkpoints import Checkpointer, CheckpointStore
from pipelines.training.state import gather_state


class Toy(nn.Module):
    """Its sizes are odd, so that shards are uneven, and one is empty; the frozen part is always the same."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.text_encoder = nn.Linear(5, 5).requires_grad_(False)
            torch.manual_seed(seed)
            self.transformer = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.transformer(self.text_encoder(x))


class ToyAverage:
    """The mean of the weights, by their names."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}

    def update(self, model: nn.Module) -> None:
        parameters = dict(model.named_parameters())
        for name, weight in self.weights.items():
            weight.lerp_(parameters[name].detach(), 0.1)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.weights)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, weight in self.weights.items():
            weight.copy_(state[name])


class ToyTraining:
    """All that a checkpoint holds; `module` is the model as workers call it."""

    def __init__(self, seed: int, parallelise: Any = lambda model: model) -> None:
        self.model = Toy(seed)
        self.module = parallelise(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01, weight_decay=0.1)
        self.average = ToyAverage(self.model)

    def train(self, num_steps: int) -> None:
        data = torch.arange(20.0).view(4, 5) / 20
        for _ in range(num_steps):
            self.module(data).square().mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.average.update(self.model)

    def state(self) -> dict[str, Any]:
        return gather_state(self.module, self.optimizer, self.average)

    def whole_state(self) -> dict[str, Tensor]:
        """Copies of all tensors, unsharded, by path."""
        return {path: whole(value).clone() for path, value in flat(self.state()).items()}


def whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def flat(state: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        found |= flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def assert_same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def only_worker(storage: Storage, **settings: Any) -> Checkpointer:
    return Checkpointer(store=CheckpointStore(storage), rank=0, world_size=1, **settings)


class Killed(Exception):
    """The process ends here."""


class DyingStorage(LocalStorage):
    """A folder whose writer dies at its n-th write, before or after it takes effect."""

    def __init__(self, root: str, num_writes: int, moment: str) -> None:
        super().__init__(root)
        self.num_left, self.moment = num_writes, moment

    def _put(self, path: str, data: bytes, *, only_new: bool) -> bool:
        self._strike("before")
        made = super()._put(path, data, only_new=only_new)
        self._strike("after")
        return made

    def _put_file(self, path: str, source: Path) -> None:
        self._strike("before")
        super()._put_file(path, source)
        self._strike("after")

    def _strike(self, moment: str) -> None:
        self.num_left -= moment == "before"
        if self.num_left < 0 and moment == self.moment:
            raise Killed(f"{moment} a write")


class WaitingStorage(LocalStorage):
    """A folder that takes no file until it may."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.may_write = threading.Event()

    def _put_file(self, path: str, source: Path) -> None:
        assert self.may_write.wait(20)
        super()._put_file(path, source)

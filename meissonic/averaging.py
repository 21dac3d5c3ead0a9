"""An exponential moving average of the weights that are trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """The average of a module's trained parameters, sharded as they are."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Begin with the module's weights; `decay` is what is kept at each update, less at the first ones."""
        self.decay = decay
        self._num_updates = torch.zeros((), dtype=torch.int64)
        self._weights = {name: p.detach().clone() for name, p in trained(module)}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's weights."""
        self._num_updates += 1
        count = int(self._num_updates)
        decay = min(self.decay, (1 + count) / (10 + count))  # so that the first steps do not linger
        weights = [_local(p) for _, p in trained(module)]
        torch._foreach_lerp_([_local(w) for w in self._weights.values()], weights, 1 - decay)

    @contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """During the block the module has the averaged weights."""
        self._swap(module)
        try:
            yield
        finally:
            self._swap(module)

    def state_dict(self) -> dict[str, Tensor]:
        """The average by parameter name, and how often it was updated."""
        return self._weights | {"num_updates": self._num_updates}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on with a state that `state_dict` gave."""
        for name, value in self.state_dict().items():
            if state[name] is not value:
                value.copy_(state[name])

    @torch.no_grad()
    def _swap(self, module: nn.Module) -> None:
        for name, parameter in trained(module):
            own = _local(self._weights[name])
            kept = own.clone()
            own.copy_(_local(parameter))
            _local(parameter).copy_(kept)


def trained(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that are trained, by the names that checkpoints know."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            yield name.replace("_checkpoint_wrapped_module.", "").replace("_orig_mod.", ""), parameter


def _local(tensor: Tensor) -> Tensor:
    """This worker's part of a sharded tensor; another tensor as it is."""
    found: Tensor = tensor.detach()
    return found.to_local() if hasattr(found, "to_local") else found

"""The state of a training as a dict of dicts of tensors, the same for a plain module, DDP and FSDP2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from meissonic.averaging import AveragedWeights

# what is frozen comes from the model that the training started from
_MODEL = StateDictOptions(ignore_frozen_params=True, strict=False)


def gather_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: AveragedWeights
) -> dict[str, Any]:
    """What a checkpoint holds; the tensors are those of the training, not copies.

    Names are those of the module that was wrapped. The optimizer's moments and steps are in it; its
    hyper-parameters are not, for they are the configuration's. An optimizer that has made no step gets the
    zeros that its first step would begin with.

    Args:
        model: The module, perhaps wrapped by DDP or sharded by `fully_shard`.
        optimizer: Of its parameters.
        average: Of its weights.

    Returns:
        "model", "optimizer" (moments by parameter) and "average".
    """
    is_new = not optimizer.state
    state: dict[str, Any] = {
        "model": get_model_state_dict(model, options=_MODEL),
        "optimizer": get_optimizer_state_dict(model, optimizer)["state"],
        "average": average.state_dict(),
    }
    if is_new:  # the call has made a step with gradients of zero
        for moments in optimizer.state.values():
            _zero(moments)
    return state


def restore_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: AveragedWeights, state: Mapping[str, Any]
) -> None:
    """Take over a state that `gather_state` gave and a checkpoint was loaded into."""
    set_model_state_dict(model, dict(state["model"]), options=_MODEL)
    groups = get_optimizer_state_dict(model, optimizer)["param_groups"]
    set_optimizer_state_dict(model, optimizer, {"state": state["optimizer"], "param_groups": groups})
    average.load_state_dict(state["average"])


def _zero(moments: Mapping[str, Any]) -> None:
    for value in moments.values():
        if isinstance(value, Tensor):
            value.zero_()

"""The average of the trained weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from meissonic.averaging import AveragedWeights


@pytest.fixture
def module() -> nn.Module:
    """One trained and one frozen layer."""
    made = nn.ModuleDict({"trained": nn.Linear(2, 2), "frozen": nn.Linear(2, 2)})
    made["frozen"].requires_grad_(False)
    return made


@torch.no_grad()
def _set(module: nn.Module, value: float) -> None:
    for parameter in module.parameters():
        parameter.fill_(value)


def test_early_updates_keep_less(module: nn.Module) -> None:
    _set(module, 0.0)
    average = AveragedWeights(module, decay=0.5)
    expected = 0.0
    for count, value in enumerate((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0), start=1):
        _set(module, value)
        average.update(module)
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * value
    state = average.state_dict()
    torch.testing.assert_close(state["trained.weight"], torch.full((2, 2), expected))


def test_frozen_weights_have_no_average(module: nn.Module) -> None:
    names = AveragedWeights(module, decay=0.9).state_dict().keys()
    assert names == {"trained.weight", "trained.bias", "num_updates"}


def test_a_module_has_the_average_during_the_block_only(module: nn.Module) -> None:
    _set(module, 0.0)
    average = AveragedWeights(module, decay=0.9)
    _set(module, 1.0)
    with average.applied_to(module):
        assert (module.get_parameter("trained.weight") == 0).all()
        assert (module.get_parameter("frozen.weight") == 1).all()
    assert (module.get_parameter("trained.weight") == 1).all()
    assert (average.state_dict()["trained.weight"] == 0).all()


def test_a_loaded_average_goes_on_alike(module: nn.Module) -> None:
    average = AveragedWeights(module, decay=0.9)
    _set(module, 1.0)
    average.update(module)
    state = copy.deepcopy(average.state_dict())

    loaded = AveragedWeights(module, decay=0.9)
    loaded.load_state_dict(state)
    _set(module, 2.0)
    for one in (average, loaded):
        one.update(module)
    for name, value in average.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name

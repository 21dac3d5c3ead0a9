"""The state of a training, as checkpoints hold it."""

from __future__ import annotations

import copy

import torch

from pipelines.training.state import restore_state
from tests.pipelines.training.checkpoints.toys import ToyTraining, assert_same


def test_to_ask_for_the_state_changes_no_training() -> None:
    asked, left_alone = ToyTraining(seed=1), ToyTraining(seed=1)
    asked.state()
    for training in (asked, left_alone):
        training.train(2)
    assert_same(asked.whole_state(), left_alone.whole_state())


def test_what_is_frozen_is_not_in_it() -> None:
    state = ToyTraining(seed=1).state()
    names = {f"transformer.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
    assert state["model"].keys() == state["average"].keys() == state["optimizer"].keys() == names


def test_hyper_parameters_stay_those_of_the_configuration() -> None:
    earlier, later = ToyTraining(seed=1), ToyTraining(seed=2)
    earlier.train(1)
    later.optimizer = torch.optim.AdamW(later.model.parameters(), lr=0.5)
    restore_state(later.module, later.optimizer, later.average, earlier.state())
    assert later.optimizer.param_groups[0]["lr"] == 0.5
    assert_same(later.whole_state(), earlier.whole_state())


def test_groups_of_parameters_need_not_be_in_the_models_order() -> None:
    def training(seed: int) -> ToyTraining:
        made = ToyTraining(seed=seed)
        parameters = dict(made.model.named_parameters())
        biases = [p for name, p in parameters.items() if "bias" in name]
        weights = [p for name, p in parameters.items() if "bias" not in name]
        made.optimizer = torch.optim.AdamW(
            [{"params": biases, "weight_decay": 0.0}, {"params": weights}], lr=0.01
        )
        return made

    earlier, later = training(1), training(2)
    earlier.train(2)
    restore_state(later.module, later.optimizer, later.average, copy.deepcopy(earlier.state()))
    for one in (earlier, later):
        one.train(2)
    assert_same(later.whole_state(), earlier.whole_state())

"""A training's measures as gauges: of the training's output, by stage, and harmless without a Ray."""

import pytest

from pipelines.run_labels import RunLabels
from pipelines.storage import open_storage
from pipelines.training import ray_gauges
from pipelines.training.ray_gauges import RayGauges

Told = list[tuple[RunLabels, str, dict[str, float]]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told: Told = []
    monkeypatch.setattr(ray_gauges, "show_training", lambda *arguments: told.append(arguments))
    return told


def test_steps_and_rates_are_told_with_run_and_stage(told: Told) -> None:
    gauges = RayGauges(open_storage("/out/training/stages/base"))
    gauges.write(7, {"step/loss": 2.5, "step/grad_norm": 1.0})
    gauges.write(8, {"rate/samples_per_s": 80.0, "rate/data_wait": 0.1})
    labels = RunLabels.of("train", "/out/training")
    assert told == [
        (labels, "base", {"step": 7.0, "loss": 2.5, "grad_norm": 1.0}),
        (labels, "base", {"step": 8.0, "samples_per_s": 80.0, "data_wait": 0.1}),
    ]


def test_the_loss_of_a_validation_is_not_the_trainings(told: Told) -> None:
    RayGauges(open_storage("/out/training/stages/base")).write(7, {"validation/loss/0.5": 3.0})
    assert told == []

"""The learning rate's shapes."""

import pytest

from pipelines.training.learning_rate import learning_rate
from pipelines.training.settings import StageSettings


def stage(**settings: object) -> StageSettings:
    return StageSettings.model_validate(
        {"datasets": ["tokens"], "num_steps": 101, "batch_size": 8, "learning_rate": 2.0} | settings
    )


def test_it_rises_by_a_line_and_never_is_zero() -> None:
    rates = [learning_rate(stage(warmup_steps=4), step) for step in range(6)]
    assert rates == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


@pytest.mark.parametrize(("decay", "half_way"), [("constant", 2.0), ("linear", 1.1), ("cosine", 1.1)])
def test_it_falls_to_what_is_to_be_left(decay: str, half_way: float) -> None:
    settings = stage(decay=decay, final_rate=0.1)
    assert learning_rate(settings, 0) == 2.0
    assert learning_rate(settings, 50) == pytest.approx(half_way)
    assert learning_rate(settings, 100) == pytest.approx(2.0 if decay == "constant" else 0.2)


def test_it_may_stay_at_its_peak_for_a_while() -> None:
    settings = stage(decay="cosine", decay_from=0.5)
    assert learning_rate(settings, 50) == 2.0
    assert learning_rate(settings, 75) == pytest.approx(1.0)
    assert learning_rate(settings, 100) == pytest.approx(0.0)

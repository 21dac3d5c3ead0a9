"""The configurations' own rules; that they are read from a model folder is tested in `test_checkpoint`."""

import math
from typing import Any

import pytest

from meissonic.config import GenerationConfig, ScoreCondition

HPS: dict[str, Any] = {
    "column": "hps_v2_1",
    "low": 0.15,
    "high": 0.35,
    "condition_low": 1.0,
    "condition_high": 10.0,
    "default": 0.25,
}


@pytest.mark.parametrize(
    ("score", "condition"), [(0.15, 1.0), (0.25, 5.5), (0.35, 10.0), (0.0, 1.0), (0.9, 10.0)]
)
def test_a_score_becomes_a_condition_on_a_line_that_is_level_past_its_ends(
    score: float, condition: float
) -> None:
    assert ScoreCondition(**HPS).condition(score) == pytest.approx(condition, abs=1e-12)


def test_the_ends_of_the_line_are_met_exactly() -> None:
    score = ScoreCondition(**HPS)
    assert (score.condition(score.low), score.condition(score.high)) == (1.0, 10.0)
    assert (score.value(1.0), score.value(10.0)) == (score.low, score.high)


@pytest.mark.parametrize("value", [0.15, 0.2, 0.2718, 0.35])
def test_a_condition_is_turned_back_into_its_score(value: float) -> None:
    score = ScoreCondition(**HPS)
    assert score.value(score.condition(value)) == pytest.approx(value, abs=1e-12)


def test_a_condition_that_no_score_becomes_is_that_of_the_nearest_end() -> None:
    score = ScoreCondition(**HPS)
    assert (score.value(0.0), score.value(11.0)) == (score.low, score.high)


def test_scores_that_are_better_when_lower_make_a_falling_line() -> None:
    score = ScoreCondition(**HPS | {"low": 0.9, "high": 0.1, "default": 0.5})
    assert [score.condition(v) for v in (1.0, 0.9, 0.1, 0.0)] == [1.0, 1.0, 10.0, 10.0]
    assert score.value(score.condition(0.3)) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": 0.35}, "must differ"),
        ({"condition_low": 10.0}, "below condition_high"),
        ({"high": math.inf}, "high is inf; it must be a finite number"),
        ({"default": math.nan}, "default is nan"),
        ({"default": "0.25"}, "default is '0.25'; it must be a finite number"),
    ],
)
def test_a_line_that_cannot_be_inverted_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScoreCondition(**HPS | changes)


def test_a_missing_number_is_named() -> None:
    with pytest.raises(ValueError, match="ScoreCondition: missing default"):
        ScoreCondition.from_json({k: v for k, v in HPS.items() if k != "default"})


def test_a_score_condition_comes_back_from_json() -> None:
    score = ScoreCondition(**HPS)
    assert ScoreCondition.from_json(score.to_json()) == score


def test_a_model_without_a_score_says_nothing_of_one() -> None:
    assert "score" not in GenerationConfig(width=64, height=64).to_json()
    assert GenerationConfig(width=64, height=64, score=ScoreCondition(**HPS)).to_json()["score"] == HPS

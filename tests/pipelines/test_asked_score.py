"""The quality that `generate` asks a model for: a row's, the job's or the model's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from meissonic import SampleRequest
from meissonic.config import GenerationConfig, ScoreCondition
from pipelines.asked_score import AskedScore
from pipelines.generation_worker import GenerationWorker, sampler_config
from tests.pipelines.generation_toys import TINY, rows, tiny_worker

HPS = ScoreCondition(
    column="hps_v2_1", low=0.15, high=0.35, condition_low=1.0, condition_high=10.0, default=0.3
)
SAMPLE_IDS = [
    "7fd8321fa65a59ad5d5c9134db6789dd",
    "954eb202cff123fb0baf602365f03204",
    "67d9afbd69dc6c49c0edce4810f41ca0",
]
"""Of the rows below and a model without a score condition, from before scores could be asked for."""


@pytest.fixture(scope="module")
def plain() -> GenerationWorker:
    return tiny_worker()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained with scores."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    shutil.copytree(TINY, folder)
    generation = GenerationConfig(width=64, height=64, score=HPS)
    (folder / "generation_config.json").write_text(json.dumps(generation.to_json()))
    return folder


@pytest.fixture(scope="module")
def scored(folder: Path) -> GenerationWorker:
    return tiny_worker(folder)


def test_a_rows_score_wins_over_the_jobs_and_the_jobs_over_the_models() -> None:
    asked = AskedScore(default=0.2, mapping=HPS)
    assert asked.of({"score": 0.25}) == 0.25
    assert asked.of({"score": None}) == 0.2
    assert AskedScore(default=None, mapping=HPS).of({"score": None}) == 0.3
    assert AskedScore(default=None, mapping=None).of({"score": None}) == 6.0


def test_a_score_is_mapped_as_in_training() -> None:
    assert AskedScore(default=None, mapping=HPS).condition(0.25) == pytest.approx(5.5)
    assert AskedScore(default=None, mapping=None).condition(7.5) == 7.5


def test_an_image_is_made_again_from_its_row(scored: GenerationWorker) -> None:
    table = scored.process(rows(prompt=["a cat"] * 3, seed=[7] * 3, score=[None, 0.16, 0.34])).table
    assert table["score"].to_pylist() == [0.3, 0.16, 0.34]
    for row in table.to_pylist():
        request = SampleRequest(
            prompt=row["prompt"],
            seed=row["seed"],
            width=row["width"],
            height=row["height"],
            score=HPS.condition(row["score"]),
            config=sampler_config(scored.config.sampler, row),
        )
        ((_, tokens),) = scored.sampler.sample([request], batch_size=4)
        assert tokens[0].tolist() == row["tokens"]
    assert len({str(row["tokens"]) for row in table.to_pylist()}) > 1


def test_a_result_is_a_prompt_table_that_makes_the_same_samples(scored: GenerationWorker) -> None:
    first = scored.process(rows(prompt=["a cat", "a dog"], score=[0.2, None])).table
    names = ["prompt", "prompt_id", "seed", "width", "height", "num_steps", "guidance_scale", "score"]
    again = scored.process(rows(**first.select(names).to_pydict())).table
    assert again.equals(first)


def test_what_the_job_asks_for_is_as_if_every_row_did(folder: Path, scored: GenerationWorker) -> None:
    of_job = tiny_worker(folder, score=0.2).process(rows(prompt=["a cat"])).table
    assert of_job.equals(scored.process(rows(prompt=["a cat"], score=[0.2])).table)


def test_a_sample_with_another_score_is_another_sample(
    scored: GenerationWorker, plain: GenerationWorker
) -> None:
    for worker, scores in ((scored, [None, 0.2, 0.35, 0.4]), (plain, [None, 5.0, 7.0])):
        table = rows(
            prompt=["a cat"] * len(scores),
            prompt_id=["x"] * len(scores),
            seed=[7] * len(scores),
            score=scores,
        )
        assert len(set(worker.process(table).table["sample_id"].to_pylist())) == len(scores)


@pytest.mark.parametrize("score", [None, 6.0])
def test_without_a_score_of_its_own_a_models_samples_keep_their_ids(
    plain: GenerationWorker, score: float | None
) -> None:
    table = rows(prompt=["a cat", "a dog"], seed=[None, 7], num_images=[2, None], score=[score] * 2)
    assert plain.process(table).table["sample_id"].to_pylist() == SAMPLE_IDS


def test_an_endless_score_is_refused_even_where_the_model_would_level_it(scored: GenerationWorker) -> None:
    result = scored.process(rows(prompt=["a", "b"], score=[float("inf"), 99.0]))
    assert [(letter.row, letter.stage, letter.message) for letter in result.failed] == [
        (0, "prompt", "score is inf; it must be a finite number")
    ]
    assert result.table["score"].to_pylist() == [99.0]

"""Several images a prompt: scored, ranked within it, and the best of them kept."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from pipelines import generation_worker
from pipelines.best_of import BestOf
from pipelines.config import ConfigError, load_config
from pipelines.generation_config import GenerateConfig
from pipelines.generation_worker import GenerationWorker
from pipelines.images import encode_image
from pipelines.scorers.interface import ImageBatch
from pipelines.scorers.settings import ClipSettings
from tests.pipelines.generation_toys import rows, tiny_worker

SCORER = ClipSettings(kind="clip", name="clip_score", model="m")


@pytest.fixture(scope="module")
def worker() -> GenerationWorker:
    return tiny_worker()


class Told:
    """A scorer that says what it was told, in the order in which images are made."""

    fields = SCORER.fields()
    min_side = 1

    def __init__(self, *scores: float | None) -> None:
        self.left = iter(scores)
        self.captions: list[str | None] = []

    def score(self, batch: ImageBatch) -> dict[str, pa.Array]:
        self.captions += batch.captions
        return {"clip_score": pa.array([next(self.left) for _ in range(len(batch))], pa.float32())}


def choosing(
    worker: GenerationWorker, scorer: Told, best_of: BestOf | None, **config: Any
) -> GenerationWorker:
    other = copy.copy(worker)
    other.config = worker.config.model_copy(update={"scorers": (SCORER,), "best_of": best_of, **config})
    other.scorers = [scorer]
    return other


def test_scores_are_of_the_image_and_its_prompt(worker: GenerationWorker) -> None:
    scorer = Told(0.1, 0.2, None)
    table = choosing(worker, scorer, None).process(rows(prompt=["a", "b"], num_images=[2, 1])).table
    assert table["clip_score"].to_pylist() == [pytest.approx(0.1), pytest.approx(0.2), None]
    assert scorer.captions == ["a", "a", "b"]
    assert "rank" not in table.column_names


def test_the_best_of_each_prompt_are_kept(worker: GenerationWorker) -> None:
    # five images of the first prompt: more than a batch of four; one of the second, fewer than are kept
    scores = (0.3, 0.9, 0.1, 0.7, 0.5, -1.0)
    table = rows(prompt=["a", "b"], num_images=[5, None], note=["x", "y"])
    everything = choosing(worker, Told(*scores), None).process(table).table
    kept = choosing(worker, Told(*scores), BestOf(keep=2, rank_by="clip_score")).process(table)
    assert kept.failed == []
    assert kept.table["sample_index"].to_pylist() == [1, 3, 0]
    assert kept.table["rank"].to_pylist() == [0, 1, 0]
    assert kept.table["kept"].to_pylist() == [True] * 3
    # each of these images is the one that is made without choosing
    assert kept.table.drop_columns(["rank", "kept"]).equals(everything.take([1, 3, 5]))


def test_losers_are_kept_where_they_are_wanted(worker: GenerationWorker) -> None:
    scores, table = (0.3, 0.9, 0.1), rows(prompt=["a"], num_images=[3])
    everything = choosing(worker, Told(*scores), None).process(table).table
    best_of = BestOf(keep=1, rank_by="clip_score", losers="keep")
    found = choosing(worker, Told(*scores), best_of).process(table).table
    assert found["rank"].to_pylist() == [1, 0, 2]
    assert found["kept"].to_pylist() == [False, True, False]
    assert found.drop_columns(["rank", "kept"]).equals(everything)


def test_losers_leave_their_tokens_and_no_image(
    worker: GenerationWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, table = (0.3, 0.9, 0.1, 0.2, 0.6), rows(prompt=["a"], num_images=[5])
    everything = choosing(worker, Told(*scores), None).process(table).table
    encoded: list[int] = []

    def counted(*arguments: Any) -> bytes:
        encoded.append(1)
        return encode_image(*arguments)

    monkeypatch.setattr(generation_worker, "encode_image", counted)
    best_of = BestOf(keep=2, rank_by="clip_score", losers="tokens")
    found = choosing(worker, Told(*scores), best_of).process(table).table
    assert len(encoded) == 2
    assert found["tokens"].equals(everything["tokens"])
    assert found["image"].to_pylist() == [
        image if index in (1, 4) else None for index, image in enumerate(everything["image"].to_pylist())
    ]


def test_ties_go_by_sample_index_and_what_is_no_number_comes_last(worker: GenerationWorker) -> None:
    scores, table = (float("nan"), 0.5, None, 0.5, 0.1), rows(prompt=["a"], num_images=[5])
    for best, ranks in (("highest", [3, 0, 4, 1, 2]), ("lowest", [3, 1, 4, 2, 0])):
        best_of = BestOf.model_validate({"keep": 5, "rank_by": "clip_score", "best": best})
        found = choosing(worker, Told(*scores), best_of).process(table).table
        assert found["rank"].to_pylist() == ranks


def test_rows_that_name_no_number_take_the_jobs(worker: GenerationWorker) -> None:
    other = choosing(worker, Told(*[0.0] * 4), None, num_images=3)
    table = other.process(rows(prompt=["a", "b"], num_images=[None, 1])).table
    assert table["prompt"].to_pylist() == ["a", "a", "a", "b"]


def test_a_prompt_with_an_image_that_is_not_finite_fails_as_a_whole(
    worker: GenerationWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = worker.sampler.sample

    def broken(requests: Any, *, batch_size: int) -> Iterator[Any]:
        for indices, tokens in sample(requests, batch_size=batch_size):
            tokens = tokens.clone()
            tokens[[index == 0 for index in indices]] = worker.model.scheduler.mask_token_id
            yield indices, tokens

    monkeypatch.setattr(worker.sampler, "sample", broken)
    best_of = BestOf(keep=1, rank_by="clip_score")
    result = choosing(worker, Told(*range(8)), best_of).process(rows(prompt=["a", "b"], num_images=[5, 3]))
    assert [(letter.row, letter.stage) for letter in result.failed] == [(0, "sample")]
    assert result.table.select(["prompt", "sample_index"]).to_pylist() == [{"prompt": "b", "sample_index": 2}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["best_of.rank_by=beauty"],
            "no score 'beauty' to rank by; the scorers' columns are clip_score, phash",
        ),
        (["best_of.rank_by=clip_score_embedding"], "no score 'clip_score_embedding' to rank by"),
        (
            ["best_of.rank_by=clip_score", "scorers=[]"],
            "no score 'clip_score' to rank by; add one to `scorers`",
        ),
        (
            ["best_of={rank_by: clip_score, losers: tokens}", "tokens=false"],
            "`losers: tokens` keeps tokens, but `tokens` is false; set it to true",
        ),
        (["best_of={rank_by: clip_score, keep: 0}"], "greater than 0"),
        (["num_images=0"], "greater than or equal to 1"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused_with_the_config(changes: list[str], message: str) -> None:
    scorers = "scorers=[{kind: clip, name: clip_score, model: m, embedding: true}, {kind: phash}]"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(GenerateConfig, None, ["prompts=p", "model=m", "output=o", scorers, *changes])

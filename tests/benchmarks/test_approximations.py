"""The benchmark of approximate samplers in small; what docs/sampling.md says is what was measured."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import approximations
from benchmarks.approximations import MODEL, SAMPLER, Way, draw, measure, picture, table
from benchmarks.record import RESULTS
from examples.shapes.prompts import choose_scenes
from examples.shapes.world import spoken
from meissonic import Meissonic

DOCS = Path(__file__).parents[2] / "docs" / "sampling.md"


@pytest.fixture(scope="module")
def model() -> Meissonic:
    torch.set_num_threads(1)
    return Meissonic.from_pretrained(MODEL)


def test_an_exact_sampler_passes_each_image_once_a_step(model: Meissonic) -> None:
    scenes = [spoken(scene) for scene in choose_scenes("test", 4, two_object_share=0.5, seed=0)]
    exact = draw(model, scenes, SAMPLER, seed=1)
    # a short batch is filled up
    assert exact.passes == SAMPLER.num_steps * approximations.BATCH_SIZE / 4
    assert len(exact.right) == len(exact.tokens) == 4
    sure = dataclasses.replace(SAMPLER, unmasking="threshold", confidence_threshold=0.3)
    assert draw(model, scenes, sure, seed=1).passes < exact.passes


@pytest.mark.reliability
def test_every_way_is_compared_with_its_exact_one(model: Meissonic) -> None:
    ways = [
        Way(name="exact", config=SAMPLER),
        Way(name="exact, guided", config=approximations.GUIDED, exact="exact, guided"),
        Way(name="3 steps", config=dataclasses.replace(SAMPLER, num_steps=3)),
    ]
    found = measure(model, ways, (2, 2), seeds=[0], repetitions=1)
    assert found["exact"]["tokens_equal"] == found["exact"]["speedup"] == 1.0
    assert found["exact, guided"]["tokens_equal"] == 1.0
    assert found["3 steps"]["tokens_equal"] < 1.0
    assert found["3 steps"]["speedup"] > 1.5
    assert all(0 <= one["right"] <= 1 and one["images"] == 4 for one in found.values())


def test_the_document_says_what_was_measured(tmp_path: Path) -> None:
    measures: dict[str, Any] = json.loads((RESULTS / "approximations.json").read_text())["measures"]
    assert measures[approximations.FAST]["settings"] == SAMPLER.fast().to_json()
    text = DOCS.read_text()
    for line in table(measures).splitlines():
        assert line in text
    picture(measures).savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000

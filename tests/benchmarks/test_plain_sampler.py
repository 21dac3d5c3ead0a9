"""The plain sampler is the same sampler: with the same noise it makes the same tokens."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from benchmarks.plain_sampler import (
    GeneratorNoise,
    PlainBatch,
    SharedNoise,
    plain_batch,
    plain_logits,
    plain_sample_tokens,
)
from benchmarks.random_models import TOKENIZER, random_module
from meissonic import Meissonic, Sampler, SamplerConfig, SampleRequest
from meissonic.inference import Reductions
from meissonic.requests import batch_shape
from meissonic.transformer import Transformer

GRID = (8, 6)


@pytest.fixture(scope="module", params=["compressed", "uncompressed"])
def model(request: pytest.FixtureRequest) -> Meissonic:
    torch.set_num_threads(1)
    recorded = Meissonic.from_pretrained(TOKENIZER.parent)
    if request.param == "compressed":
        return recorded
    config = dataclasses.replace(recorded.transformer.config, downsample=False, upsample=False)
    return dataclasses.replace(recorded, transformer=random_module(Transformer, config))


@pytest.fixture(scope="module")
def requests(model: Meissonic) -> list[SampleRequest]:
    height, width = (side * model.vq.config.factor for side in GRID)
    return [
        SampleRequest(
            prompt=f"prompt {i}",
            seed=i,
            width=width,
            height=height,
            config=SamplerConfig(num_steps=7, guidance_scale=3.0 + i),
        )
        for i in range(3)
    ]


@pytest.fixture(scope="module")
def batch(model: Meissonic, requests: list[SampleRequest]) -> PlainBatch:
    return plain_batch(model, requests)


@pytest.fixture(scope="module")
def noise(model: Meissonic) -> SharedNoise:
    return SharedNoise(3, GRID[0] * GRID[1], model.transformer.config.codebook_size, "cpu")


@pytest.fixture(scope="module")
def plain_steps(model: Meissonic, batch: PlainBatch, noise: SharedNoise) -> list[Tensor]:
    steps: list[Tensor] = []
    plain_sample_tokens(model, batch, noise, steps)
    return steps


REDUCTIONS = {"all": Reductions(), "none": Reductions.none()} | {
    name: dataclasses.replace(Reductions.none(), **{name: True})
    for name in (field.name for field in dataclasses.fields(Reductions))
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_each_reduction_and_all_make_the_plain_sampler_s_tokens_of_the_same_noise(
    model: Meissonic,
    requests: list[SampleRequest],
    noise: SharedNoise,
    plain_steps: list[Tensor],
    name: str,
) -> None:
    sampler = Sampler(model, reductions=REDUCTIONS[name])
    ours = sampler.prepare(requests, batch_shape(model, requests[0]), noise)
    for _ in range(2):  # the second time with what the first one has kept
        steps: list[Tensor] = []
        sampler.run(ours, noise, lambda _step, tokens, _drawn: steps.append(tokens))  # noqa: B023
        assert torch.equal(torch.stack(plain_steps), torch.stack(steps))


@pytest.mark.parametrize("step", [0, 2])
def test_guidance_before_the_last_product_gives_the_same_logits(
    model: Meissonic, requests: list[SampleRequest], batch: PlainBatch, noise: SharedNoise, step: int
) -> None:
    everywhere = torch.arange(GRID[0] * GRID[1]).expand(3, -1)
    sampler = Sampler(model)
    ours = sampler.prepare(requests, batch_shape(model, requests[0]), noise)
    fast = sampler.logits(ours, batch.tokens_BHW, step, everywhere)
    # guidance multiplies the rounding of its two halves
    torch.testing.assert_close(plain_logits(model, batch, batch.tokens_BHW, step), fast, atol=2e-4, rtol=2e-4)


def test_the_reference_s_noise_leaves_nothing_masked(model: Meissonic, batch: PlainBatch) -> None:
    tokens = plain_sample_tokens(model, batch, GeneratorNoise(3, seed=0))
    assert (tokens < model.transformer.config.codebook_size).all()

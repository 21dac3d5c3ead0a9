"""The plain sampler is the same sampler: with the same noise it makes the same tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.plain_sampler import GeneratorNoise, SharedNoise, plain_logits, plain_sample_tokens
from benchmarks.random_models import TOKENIZER
from meissonic import Meissonic, SamplerConfig, SampleRequest
from meissonic.sampling import Batch, batch_shape, guided_logits, prepare_batch, sample_tokens

GRID = (8, 6)


@pytest.fixture(scope="module")
def model() -> Meissonic:
    torch.set_num_threads(1)
    return Meissonic.from_pretrained(TOKENIZER.parent)


@pytest.fixture(scope="module")
def batch(model: Meissonic) -> Batch:
    height, width = (side * model.vq.config.factor for side in GRID)
    requests = [
        SampleRequest(
            prompt=f"prompt {i}",
            seed=i,
            width=width,
            height=height,
            config=SamplerConfig(num_steps=7, guidance_scale=3.0 + i),
        )
        for i in range(3)
    ]
    shape = batch_shape(model, requests[0])
    return prepare_batch(model, requests, shape, SharedNoise(3, 1, 1, "cpu"))


def test_both_samplers_make_the_same_tokens_of_the_same_noise(model: Meissonic, batch: Batch) -> None:
    noise = SharedNoise(3, GRID[0] * GRID[1], model.transformer.config.codebook_size, "cpu")
    plain_steps: list[Tensor] = []
    fast_steps: list[Tensor] = []
    plain = plain_sample_tokens(model, batch, noise, plain_steps)
    fast = sample_tokens(model, batch, noise, lambda _step, tokens, _drawn: fast_steps.append(tokens))
    assert torch.equal(plain, fast)
    assert torch.equal(torch.stack(plain_steps), torch.stack(fast_steps))


def test_guidance_before_the_last_product_gives_the_same_logits(model: Meissonic, batch: Batch) -> None:
    everywhere = torch.arange(GRID[0] * GRID[1]).expand(3, -1)
    fast = guided_logits(model, batch, batch.tokens_BHW, 2, everywhere)
    # guidance multiplies the rounding of its two halves
    torch.testing.assert_close(plain_logits(model, batch, batch.tokens_BHW, 2), fast, atol=2e-4, rtol=2e-4)


def test_the_reference_s_noise_leaves_nothing_masked(model: Meissonic, batch: Batch) -> None:
    tokens = plain_sample_tokens(model, batch, GeneratorNoise(3, seed=0))
    assert (tokens < model.transformer.config.codebook_size).all()

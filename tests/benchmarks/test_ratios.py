"""What is claimed to be faster is: ratios of CPU seconds in small, which a busy machine leaves alone."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.dedup import MAX_HAMMING, measure_tables, planted_hashes
from benchmarks.engine import resuming
from benchmarks.plain_sampler import GeneratorNoise, plain_batch, plain_sample_tokens
from benchmarks.random_models import TOKENIZER_VOCAB, random_model
from benchmarks.timing import interleaved, ratios
from meissonic import Sampler, SamplerConfig, SampleRequest, TextConfig, TransformerConfig, VQConfig
from meissonic.noise import PhiloxNoise
from meissonic.requests import batch_shape

WIDTH = 128
GRID = 12


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def times_as_fast(ours: Callable[[], object], plain: Callable[[], object], rounds: int = 3) -> float:
    """The median of the rounds' quotients of CPU seconds."""
    seconds = interleaved({"plain": plain, "ours": ours}, rounds).cpu
    return statistics.median(ratios(seconds["plain"], seconds["ours"]))


def test_the_sampler_takes_less_than_the_plain_one() -> None:
    transformer = TransformerConfig(
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=64,
        num_attention_heads=WIDTH // 64,
        joint_attention_dim=64,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(16, 24, 24),
        downsample=False,
        upsample=False,
    )
    text = TextConfig(
        vocab_size=TOKENIZER_VOCAB,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=WIDTH,
    )
    vq = VQConfig(block_out_channels=(8,) * 5, layers_per_block=1, norm_num_groups=4)
    model, side = random_model(transformer, vq, text), GRID * vq.factor
    config = SamplerConfig(num_steps=6, guidance_scale=9.0)
    requests = [SampleRequest(prompt="a fox", seed=0, width=side, height=side, config=config)]
    noise, sampler = PhiloxNoise([0], "cpu"), Sampler(model)
    batch = sampler.prepare(requests, batch_shape(model, requests[0]), noise)
    whole, plain_noise = plain_batch(model, requests), GeneratorNoise(1, seed=0)
    ratio = times_as_fast(
        functools.partial(sampler.run, batch, noise),
        functools.partial(plain_sample_tokens, model, whole, plain_noise),
    )
    assert ratio > 1.0  # it was 2.3: guidance and the head are much of so small a model


def test_resuming_takes_less_with_rollups_than_without(tmp_path: Path) -> None:
    output = str(tmp_path / "run")
    resuming.set_up(output, units=1000)
    ratio = times_as_fast(
        functools.partial(resuming.resume, output, missing_rollups=0.0),
        functools.partial(resuming.resume, output, missing_rollups=1.0),  # deletes what it wrote before
    )
    assert ratio > 1.0  # it was 3.8


def test_block_tables_find_the_pairs_of_a_comparison_of_all_with_all_in_less() -> None:
    hashes, _ = planted_hashes(15_000, seed=0)

    def all_with_all() -> int:
        close = (np.bitwise_count(own ^ hashes[n + 1 :]) <= MAX_HAMMING for n, own in enumerate(hashes))
        return sum(int(found.sum()) for found in close)

    assert measure_tables(hashes)["pairs"] == all_with_all()
    ratio = times_as_fast(functools.partial(measure_tables, hashes), all_with_all)
    assert ratio > 1.0  # it was 6, and grows with the number of hashes

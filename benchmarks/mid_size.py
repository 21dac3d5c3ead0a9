"""A mid-size model sampled whole on CPUs, by the project's sampler and by the plain one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.cells import GUIDANCE_SCALE, Cell, measure, speedup
from benchmarks.plain_sampler import (
    GeneratorNoise,
    SharedNoise,
    plain_batch,
    plain_logits,
    plain_sample_tokens,
)
from benchmarks.random_models import TOKENIZER_VOCAB, random_model
from benchmarks.timing import significant, spread
from meissonic import (
    Meissonic,
    Sampler,
    SamplerConfig,
    SampleRequest,
    TextConfig,
    TransformerConfig,
    VQConfig,
    cost,
)
from meissonic.inference import Reductions
from meissonic.masking import masked_counts
from meissonic.noise import PhiloxNoise
from meissonic.requests import batch_shape

MID_SIZE = TransformerConfig(
    num_layers=6,
    num_single_layers=12,
    attention_head_dim=64,
    num_attention_heads=8,
    joint_attention_dim=512,
    pooled_projection_dim=512,
    axes_dims_rope=(16, 24, 24),
    downsample=False,
    upsample=False,
)
MID_SIZE_GRID = 16
MID_SIZE_STEPS = 12
MID_SIZE_TEXT = TextConfig(
    vocab_size=TOKENIZER_VOCAB,
    hidden_size=512,
    intermediate_size=2048,
    num_hidden_layers=2,
    num_attention_heads=8,
    projection_dim=512,
)
MID_SIZE_VQ = VQConfig(block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1, norm_num_groups=4)
"""Stands in: sampling ends at the tokens here."""
PROMPTS = ("a lighthouse on a cliff at dusk", "two red foxes asleep in the snow")


def mid_size_model(dtype: torch.dtype) -> Meissonic:
    """The mid-size model with random weights."""
    return random_model(MID_SIZE, MID_SIZE_VQ, MID_SIZE_TEXT, dtype=dtype)


def mid_size_requests(batch_size: int) -> list[SampleRequest]:
    """Guided text-to-image."""
    side = MID_SIZE_GRID * MID_SIZE_VQ.factor
    config = SamplerConfig(num_steps=MID_SIZE_STEPS, guidance_scale=GUIDANCE_SCALE)
    return [
        SampleRequest(prompt=PROMPTS[i % len(PROMPTS)], seed=i, width=side, height=side, config=config)
        for i in range(batch_size)
    ]


def samplers(
    cell: Cell, *, repetitions: int, matmul_size: int, batch_size: int, apart: bool = False
) -> dict[str, Any]:
    """The mid-size model by both samplers, each with its own noise; texts are encoded beforehand.

    `apart`: also with each reduction turned off alone.
    """
    model = mid_size_model(cell.dtype)
    requests = mid_size_requests(batch_size)
    noise = PhiloxNoise(range(batch_size), "cpu")
    side = MID_SIZE_GRID
    counts = masked_counts("cosine", side * side, MID_SIZE_STEPS)
    plain, plain_flops = (
        plain_batch(model, requests),
        cost.plain_sampling_flops(MID_SIZE, side, side, MID_SIZE_STEPS),
    )
    flops = cost.sampling_flops(MID_SIZE, side, side, counts)
    arms: dict[str, tuple[Callable[[], object], int]] = {
        "plain": (
            lambda: plain_sample_tokens(model, plain, GeneratorNoise(batch_size, 0)),
            batch_size * plain_flops,
        )
    }
    reductions = {"fast": Reductions()}
    if apart:
        names = [field.name for field in dataclasses.fields(Reductions)]
        reductions |= {
            f"without_{name}": Reductions().without(name) for name in names if name != "cached_text"
        }
    for name, chosen in reductions.items():
        sampler = Sampler(model, reductions=chosen)
        batch = sampler.prepare(requests, batch_shape(model, requests[0]), noise)
        arms[name] = (functools.partial(sampler.run, batch, noise), batch_size * flops)
    result, timings = measure(cell, arms, repetitions=repetitions, matmul_size=matmul_size)
    for name in arms:
        result["arms"][name]["images_per_s"] = spread([batch_size / s for s in timings.wall[name]])
    result["batch_size"] = batch_size
    result["speedup_by_flops"] = significant(plain_flops / flops)
    result["gain_of"] = {
        name.removeprefix("without_"): speedup(timings, name, "fast")
        for name in arms
        if name.startswith("without")
    }
    return result | speedup(timings, "plain", "fast")


@torch.inference_mode()
def agreement(dtype: torch.dtype, num_threads: int = 1) -> dict[str, Any]:
    """Whether both samplers make the same tokens of the same noise, and how far their logits are apart.

    Logits are compared at each step's masked positions, both samplers given the plain one's tokens.
    """
    torch.set_num_threads(num_threads)
    model = mid_size_model(dtype)
    requests = mid_size_requests(1)
    noise = SharedNoise(1, MID_SIZE_GRID**2, MID_SIZE.codebook_size, "cpu")
    trajectory: list[Tensor] = []
    whole = plain_batch(model, requests)
    plain = plain_sample_tokens(model, whole, noise, trajectory)
    sampler = Sampler(model)
    batch = sampler.prepare(requests, batch_shape(model, requests[0]), noise)
    fast = sampler.run(batch, noise)
    difference, deviation, largest = 0.0, [], 0.0
    for step, tokens in enumerate([whole.tokens_BHW, *trajectory[:-1]]):
        masked = (tokens.flatten(1) == model.scheduler.mask_token_id).nonzero()[:, 1][None]
        ours = sampler.logits(batch, tokens, step, masked)
        theirs = plain_logits(model, whole, tokens, step)[:, masked[0]]
        difference = max(difference, (ours - theirs).abs().max().item())
        deviation.append((ours - theirs).square().mean().sqrt().item() / theirs.std().item())
        largest = max(largest, theirs.abs().max().item())
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "tokens_equal": torch.equal(plain, fast),
        "share_of_tokens_equal": significant((plain == fast).float().mean().item()),
        "largest_logit": significant(largest),
        "largest_logit_difference": significant(difference),
        "rms_logit_difference_by_std": significant(max(deviation)),
    }

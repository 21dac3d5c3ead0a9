"""Sampling by the released configuration, decoding included: images/s, share of the dense rate and memory.

Compiled blocks and captured graphs at every batch size; at a few of them also without, the plain sampler of
`benchmarks/plain_sampler.py`, and each exact reduction left out alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.memory import largest_batches, peak_memory, unless_out_of_memory
from benchmarks.gpu.scale import DTYPE, Scale, main_model, requests
from benchmarks.matmul import SquareProduct
from benchmarks.plain_sampler import GeneratorNoise, plain_batch, plain_sample_tokens
from benchmarks.timing import interleaved, ratios, significant, spread
from meissonic import Meissonic, Sampler, cost, to_uint8
from meissonic.inference import Reductions
from meissonic.masking import masked_counts
from meissonic.noise import PhiloxNoise
from meissonic.requests import SampleRequest, batch_shape


def measure(scale: Scale, device: str) -> dict[str, Any]:
    """All steps at every batch size, and the ways to sample at those that are compared."""
    model = main_model(scale, device)
    sampler = Sampler(model, compiled=scale.compiles)
    result: dict[str, Any] = {
        str(batch_size): unless_out_of_memory(partial(_at, sampler, scale, device, batch_size))
        for batch_size in scale.batch_sizes
    }
    peaks = {size: result[str(size)].get("peak_reserved_gib") for size in scale.batch_sizes}
    known = {size: peak for size, peak in peaks.items() if peak is not None}
    result["largest_batch_by_gib"] = largest_batches(known)
    result["ways"] = {
        str(batch_size): unless_out_of_memory(partial(_ways, model, sampler, scale, device, batch_size))
        for batch_size in scale.compared_batch_sizes
    }
    return result


def sampling(sampler: Sampler, wanted: list[SampleRequest]) -> Callable[[], torch.Tensor]:
    """All steps of a batch, its texts encoded beforehand."""
    noise = PhiloxNoise([request.seed for request in wanted], sampler.model.device)
    batch = sampler.prepare(wanted, batch_shape(sampler.model, wanted[0]), noise)
    return partial(sampler.run, batch, noise)


def _at(sampler: Sampler, scale: Scale, device: str, batch_size: int) -> dict[str, Any]:
    wanted = requests(scale, batch_size, scale.num_steps)
    run = sampling(sampler, wanted)
    tokens = run()  # compiles, captures and finds its kernels

    def image() -> None:
        to_uint8(sampler.decode(run(), batch_size=batch_size)).cpu()

    sampler.decode(tokens, batch_size=batch_size)
    memory = peak_memory(device, image)
    product = SquareProduct(max(scale.matmul_sizes), DTYPE, device, products=scale.matmul_products)
    product()
    arms: dict[str, Callable[[], object]] = {"matmul": product, "sample": run, "sample_and_decode": image}
    seconds = interleaved(arms, repetitions=scale.repetitions, device=device, warmups=0).wall
    grid = scale.side // scale.vq.factor
    counts = masked_counts("cosine", grid * grid, scale.num_steps)
    computed = cost.sampling_flops(scale.transformer, grid, grid, counts)
    as_written = cost.plain_sampling_flops(scale.transformer, grid, grid, scale.num_steps)
    decoded = cost.vq_decode_flops(scale.vq, grid, grid)
    rates = [product.flops / s for s in seconds["matmul"]]
    whole = [batch_size / s for s in seconds["sample_and_decode"]]
    return memory | {
        "sample_seconds": spread(seconds["sample"]),
        "sample_and_decode_seconds": spread(seconds["sample_and_decode"]),
        "images_per_s": spread(whole),
        "tflop_as_written_per_image": (as_written + decoded) / 1e12,
        "matmul_tflop_per_s": spread([rate / 1e12 for rate in rates]),
        "fraction_of_matmul_rate": spread(
            ratios([batch_size * computed / s for s in seconds["sample"]], rates)
        ),
        "fraction_of_limit_as_written": spread(ratios([r * (as_written + decoded) for r in whole], rates)),
    }


def _ways(model: Meissonic, compiled: Sampler, scale: Scale, device: str, batch_size: int) -> dict[str, Any]:
    """Seconds of one batch by each way in turns, and the share of tokens that equal the eager sampler's."""
    wanted = requests(scale, batch_size, scale.num_steps)
    plain = plain_batch(model, wanted)
    arms: dict[str, Callable[[], torch.Tensor]] = {
        "plain_eager": lambda: plain_sample_tokens(model, plain, GeneratorNoise(batch_size, 0, device)),
        "eager": sampling(Sampler(model), wanted),
        "compiled": sampling(compiled, wanted),
    }
    for field in dataclasses.fields(Reductions):
        if field.name != "cached_text":
            reduced = Sampler(model, reductions=Reductions().without(field.name), compiled=scale.compiles)
            arms[f"compiled_without_{field.name}"] = sampling(reduced, wanted)
    tokens = {name: run() for name, run in arms.items()}
    seconds = interleaved(arms, repetitions=scale.repetitions, device=device, warmups=0).wall
    return {
        name: {
            "seconds": spread(seconds[name]),
            "speedup_over_plain": spread(ratios(seconds["plain_eager"], seconds[name])),
            "tokens_equal_to_eager": significant((tokens[name] == tokens["eager"]).float().mean().item()),
        }
        for name in arms
    }

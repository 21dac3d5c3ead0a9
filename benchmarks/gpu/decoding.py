"""VQ decoding by the released configuration: images/s, share of the dense rate and memory, by batch size."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.gpu.memory import peak_memory, unless_out_of_memory
from benchmarks.gpu.scale import DTYPE, Scale, main_model
from benchmarks.matmul import SquareProduct
from benchmarks.timing import interleaved, ratios, spread
from meissonic import Sampler, cost, to_uint8


def measure(scale: Scale, device: str) -> dict[str, Any]:
    """Tokens to pixels on the device, and on to bytes on the CPU."""
    sampler = Sampler(main_model(scale, device), compiled=scale.compiles)
    return {
        str(batch_size): unless_out_of_memory(partial(_at, sampler, scale, device, batch_size))
        for batch_size in scale.batch_sizes
    }


def _at(sampler: Sampler, scale: Scale, device: str, batch_size: int) -> dict[str, Any]:
    grid = scale.side // scale.vq.factor
    generator = torch.Generator(device).manual_seed(0)
    shape = (batch_size, grid, grid)
    tokens = torch.randint(scale.vq.num_vq_embeddings, shape, generator=generator, device=device)
    memory = peak_memory(device, lambda: sampler.decode(tokens, batch_size=batch_size))
    product = SquareProduct(max(scale.matmul_sizes), DTYPE, device, products=scale.matmul_products)
    seconds = interleaved(
        {
            "matmul": product,
            "decode": lambda: sampler.decode(tokens, batch_size=batch_size),
            "decode_to_bytes": lambda: to_uint8(sampler.decode(tokens, batch_size=batch_size)).cpu(),
        },
        repetitions=scale.repetitions,
        device=device,
    ).wall
    flops = batch_size * cost.vq_decode_flops(scale.vq, grid, grid)
    return memory | {
        "seconds": spread(seconds["decode"]),
        "to_bytes_seconds": spread(seconds["decode_to_bytes"]),
        "images_per_s": spread([batch_size / s for s in seconds["decode"]]),
        "fraction_of_matmul_rate": spread(
            ratios([flops / s for s in seconds["decode"]], [product.flops / s for s in seconds["matmul"]])
        ),
    }

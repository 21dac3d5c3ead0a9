"""Parts of the released configuration on CPUs, one sample at 1024 px: blocks, head and VQ decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.cells import GUIDANCE_SCALE, Cell, measure, speedup
from benchmarks.random_models import random_module, random_weights
from benchmarks.timing import significant
from meissonic import (
    TransformerConfig,
    VQConfig,
    cost,
)
from meissonic.layers import rope_table
from meissonic.transformer import DoubleBlock, Head, SingleBlock, position_ids
from meissonic.vq import VQModel

RELEASED, RELEASED_VQ = TransformerConfig(), VQConfig()
GRID = 64
"""Tokens along a side of the released model's images."""
NUM_STEPS = 48
MASKED_FRACTION = 0.647
"""Mean over the 48 steps of the cosine schedule."""


@torch.inference_mode()
def released_parts(cell: Cell, *, repetitions: int, matmul_size: int) -> dict[str, Any]:
    """A double block, a single block and the head of the released configuration, one sample at 1024 px."""
    width, head_dim, side = RELEASED.width, RELEASED.attention_head_dim, GRID // 2
    num_text, num_image = cost.TEXT_LENGTH, side * side
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(cell.dtype)

    double = random_weights(DoubleBlock(width, head_dim).to(cell.dtype))
    single = random_weights(SingleBlock(width, head_dim).to(cell.dtype))
    head = random_weights(Head(width, RELEASED.codebook_size).to(cell.dtype))
    image, text, temb = normal(1, num_image, width), normal(1, num_text, width), normal(1, width)
    rope = rope_table(position_ids(num_text, side, side, torch.device("cpu")), RELEASED.axes_dims_rope)
    joined = torch.cat([text, image], dim=1)
    hidden = normal(2, GRID * GRID, width)
    masked = round(MASKED_FRACTION * GRID * GRID)
    positions = torch.randperm(GRID * GRID, generator=generator)[:masked].sort().values

    def head_everywhere() -> Tensor:
        unconditional, conditional = head.logits(head.features(hidden)).float().chunk(2)
        return unconditional + GUIDANCE_SCALE * (conditional - unconditional)

    def head_masked() -> Tensor:
        unconditional, conditional = head.features(hidden[:, positions]).float().chunk(2)
        guided = unconditional + GUIDANCE_SCALE * (conditional - unconditional)
        return head.logits(guided.to(cell.dtype)).float()

    block = cost.block_flops(width, num_text + num_image) + cost.attention_flops(width, num_text + num_image)
    arms: dict[str, tuple[Callable[[], object], int]] = {
        "double_block": (lambda: double(image, text, temb, rope), block + 2 * 12 * width**2),
        "single_block": (lambda: single(joined, temb, rope), block + 2 * 3 * width**2),
        "head_both_halves_everywhere": (
            head_everywhere,
            cost.head_flops(RELEASED, 2 * GRID * GRID, 2 * GRID * GRID),
        ),
        "head_guided_first_at_masked": (head_masked, cost.head_flops(RELEASED, 2 * masked, masked)),
    }
    result, timings = measure(cell, arms, repetitions=repetitions, matmul_size=matmul_size)
    result["head"] = speedup(timings, "head_both_halves_everywhere", "head_guided_first_at_masked")
    return result


@torch.inference_mode()
def released_vq(cell: Cell, *, repetitions: int, matmul_size: int, grid: int = GRID) -> dict[str, Any]:
    """Decoding one image by the released VQ configuration."""
    vq = random_module(VQModel, RELEASED_VQ, cell.dtype)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(RELEASED_VQ.num_vq_embeddings, (1, grid, grid), generator=generator)
    arms: dict[str, tuple[Callable[[], object], int]] = {
        "vq_decode": (lambda: vq.decode(tokens), cost.vq_decode_flops(RELEASED_VQ, grid, grid))
    }
    # a whole decoding is too long for a warm-up
    vq.decode(tokens[:, :8, :8])
    return measure(cell, arms, repetitions=repetitions, matmul_size=matmul_size, warmups=0)[0]


def released_image_s(parts: dict[str, Any], vq: dict[str, Any]) -> float:
    """Seconds that a whole image of the released model would take: sums of the parts' medians, not measured.

    Text encoder, embedding, projections and draws, some 2 % of the operations, are left out.
    """
    median = {name: arm["seconds"]["median"] for name, arm in (parts["arms"] | vq["arms"]).items()}
    blocks = (
        RELEASED.num_layers * median["double_block"] + RELEASED.num_single_layers * median["single_block"]
    )
    steps = NUM_STEPS * (2 * blocks + median["head_guided_first_at_masked"])
    return significant(steps + median["vq_decode"])

"""Which positions stay masked: the schedules, and re-masking by confidence.

Shapes: B batch, N positions.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from meissonic.config import MaskingSchedule

TINY = 1e-20


def masked_fraction(schedule: MaskingSchedule, steps_done: int, num_steps: int) -> Tensor:
    """Fraction of positions still masked after `steps_done` of `num_steps`, float32 scalar.

    In float32 throughout: the floor of its product with N falls on whole numbers.
    """
    progress = torch.tensor(steps_done, dtype=torch.float32) / num_steps
    return torch.cos(progress * math.pi / 2) if schedule == "cosine" else 1 - progress


def num_to_mask(fraction: Tensor, num_positions: int, num_unknown_B: Tensor) -> Tensor:
    """How many positions to mask again: fewer than were unknown, at least one, int64 [B]."""
    wanted = (num_positions * fraction).floor().to(num_unknown_B)
    return torch.minimum(num_unknown_B - 1, wanted).clamp_min(1)


def masked_counts(schedule: MaskingSchedule, num_positions: int, num_steps: int) -> list[int]:
    """How many positions are masked when each step of text-to-image begins (ties may leave fewer)."""
    counts = [num_positions]
    for done in range(1, num_steps):
        fraction = masked_fraction(schedule, done, num_steps)
        counts.append(int(num_to_mask(fraction, num_positions, torch.tensor(counts[-1]))))
    return counts


def temperatures(temperature: tuple[float, float], num_steps: int) -> Tensor:
    """The confidence noise's weight at each step, float32 [num_steps]."""
    return torch.linspace(temperature[0], temperature[1], num_steps)


@functools.lru_cache(maxsize=16)
def halton_ranks(height: int, width: int) -> Tensor:
    """The place of each position of a grid in the order of a Halton sequence, int64 [N].

    Points of the sequence with bases 2 (rows) and 3 (columns) fall into the grid's cells; a cell's place is
    that of its first point.
    """
    ranks: dict[int, int] = {}
    index = 0
    while len(ranks) < height * width:
        index += 1
        cell = int(_van_der_corput(index, 2) * height) * width + int(_van_der_corput(index, 3) * width)
        ranks.setdefault(cell, len(ranks))
    return torch.tensor([ranks[cell] for cell in range(height * width)])


def _van_der_corput(index: int, base: int) -> float:
    """The digits of `index` mirrored at the point."""
    value, scale = 0.0, 1.0
    while index:
        index, digit = divmod(index, base)
        scale /= base
        value += digit * scale
    return value


def remask(
    log_probs_BN: Tensor, unknown_BN: Tensor, uniform_BN: Tensor, num_masked_B: Tensor, temperature_B: Tensor
) -> Tensor:
    """The positions to mask again: the least confident of those that were unknown, bool [B, N].

    Args:
        log_probs_BN: fp32 log-probability of the code just drawn.
        unknown_BN: masked before this step.
        uniform_BN: U(0, 1) noise.
        num_masked_B: how many to mask; ties at the threshold mask fewer.
        temperature_B: weight of the Gumbel noise.
    """
    gumbel = -torch.log((-torch.log(uniform_BN.clamp_min(TINY))).clamp_min(TINY))
    confidence = torch.where(unknown_BN, log_probs_BN + temperature_B[:, None] * gumbel, torch.inf)
    index = num_masked_B.clamp_max(confidence.shape[1] - 1)
    return confidence < confidence.sort(dim=1).values.gather(1, index[:, None])

"""The sampler's randomness, counter-based: a draw depends on the sample's seed, the step and the position.

Shapes: B batch, N positions, M positions that are looked at in a step, V codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from meissonic.drawing import Draw, draw

# Philox 4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORD = 0xFFFFFFFF

_STEP_STREAM, _START_STREAM = 0, 1


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Four 32-bit words for each counter and key, as int64 tensors of their broadcast shape."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # int64 products wrap modulo 2^64; their two halves are what an unsigned product has
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _WORD) ^ c1 ^ k0,
            p1 & _WORD,
            ((p0 >> 32) & _WORD) ^ c3 ^ k1,
            p0 & _WORD,
        )
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1, c2, c3


class Noise(Protocol):
    """What the sampler asks for; recorded noise can be played back behind it."""

    def draw(self, step: int, positions_BM: Tensor, logits_BMV: Tensor) -> tuple[Tensor, Tensor]:
        """One code per position, drawn by its float32 logits: int64 [B, M], and its log-probability."""

    def confidence_uniform(self, step: int, num_positions: int) -> Tensor:
        """U(0, 1) behind the Gumbel noise of the confidences: float32 [B, N]."""

    def start_uniform(self, num_positions: int) -> Tensor:
        """U(0, 1) that decides which tokens of a start image are masked: float32 [B, N]."""


class PhiloxNoise:
    """Noise keyed by each sample's seed."""

    def __init__(self, seeds: Sequence[int], device: str | torch.device, draw: Draw = draw) -> None:
        """Seeds: one a sample, 0 <= seed < 2^63; `draw` takes logits and uniforms."""
        self._draw = draw
        seeds_B1 = torch.tensor(list(seeds), dtype=torch.int64, device=device)[:, None]
        self._key = (seeds_B1 & _WORD, seeds_B1 >> 32)

    def _words(self, positions: Tensor, step: int, stream: int) -> tuple[Tensor, ...]:
        zeros = torch.zeros_like(positions)
        return philox((positions, zeros + step, zeros + stream, zeros), self._key)

    def _all(self, num_positions: int) -> Tensor:
        return torch.arange(num_positions, device=self._key[0].device).expand(len(self._key[0]), -1)

    def draw(self, step: int, positions_BM: Tensor, logits_BMV: Tensor) -> tuple[Tensor, Tensor]:
        """See `Noise`."""
        uniform_BM = _unit(self._words(positions_BM, step, _STEP_STREAM)[0])
        return self._draw(logits_BMV, uniform_BM)

    def confidence_uniform(self, step: int, num_positions: int) -> Tensor:
        """See `Noise`."""
        return _unit(self._words(self._all(num_positions), step, _STEP_STREAM)[1])

    def start_uniform(self, num_positions: int) -> Tensor:
        """See `Noise`."""
        return _unit(self._words(self._all(num_positions), 0, _START_STREAM)[0])


def _unit(word: Tensor) -> Tensor:
    """32-bit words -> float32 in [0, 1), all 24 bits of its precision."""
    return (word >> 8).float() * 2.0**-24

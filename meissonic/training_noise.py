"""The randomness of training, counter-based: a draw depends on the seed, the batch and the place in it.

So any worker can draw for its own samples alone, on any device, and a restart draws the same again. Shapes: B
samples of a worker, N positions.
"""

from __future__ import annotations

import enum

import torch
from torch import Tensor

from meissonic.noise import philox

_WORD = 0xFFFFFFFF
_INDEX_HIGH_SHIFT = 8
"""The stream has the low byte of the counter's third word, the rest of the batch's index the others."""


class Stream(enum.IntEnum):
    """What is drawn. The sampler has the streams 0 and 1."""

    RATE = 2
    ORDER = 3
    DROP = 4
    TIMESTEP = 5
    STEPS = 6
    CAPTION = 7
    POOLED_CAPTION = 8


class TrainingNoise:
    """The draws for some samples of a batch."""

    def __init__(self, seed: int, index: int, slots_B: Tensor) -> None:
        """Key and counters.

        Args:
            seed: of the training, 0 <= seed < 2^63.
            index: of the batch in the order of the data, below 2^56.
            slots_B: places of the samples in the whole batch, int64; their device is that of the draws.
        """
        self._key = (torch.tensor(seed & _WORD), torch.tensor(seed >> 32))
        self._index = index
        self._slots_B = slots_B

    def uniform(self, stream: Stream) -> Tensor:
        """U(0, 1) with 24 bits, float32 [B]."""
        return (self._words(stream, torch.zeros_like(self._slots_B), self._slots_B) >> 8).float() * 2.0**-24

    def order(self, num_positions: int) -> Tensor:
        """A random permutation of the positions for each sample, int64 [B, N]."""
        positions_N = torch.arange(num_positions, device=self._slots_B.device)
        words_BN = self._words(Stream.ORDER, positions_N[None], self._slots_B[:, None])
        # a word and its position: no two are equal, so every device sorts alike
        return (words_BN * num_positions + positions_N).argsort(dim=1)

    def _words(self, stream: Stream, positions: Tensor, slots: Tensor) -> Tensor:
        # single numbers stay on the CPU: copies of them would wait for all that a GPU has to do
        high = (self._index >> 32) << _INDEX_HIGH_SHIFT
        third, fourth = torch.tensor(high | int(stream)), torch.tensor(self._index & _WORD)
        return philox((positions, slots, third, fourth), self._key)[0]

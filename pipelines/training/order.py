"""Which samples a batch has: a function of the token store's shards, the seed and the batch's number alone.

Any batch can be asked for at once, whatever came before it: no state has to be saved or played back.

Every grid has its own endless sequence, epoch after epoch. An epoch permutes the grid's blocks (shards) and
cuts them into windows; the rows of a window are shuffled together. So a reader holds one window at a time.
A batch is the next piece of its grid's sequence: it may straddle windows and epochs; no sample is left out.

Shapes: B batch.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from schemas.tokens import Grid

_GRID_STREAM, _BLOCK_STREAM, _ROW_STREAM = range(3)
_CHUNK = 1 << 16
"""Batches whose grids are drawn together."""
_CACHED_WINDOWS = 2
"""Of a grid: a batch may straddle them."""


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """The samples of one global batch, in the order of its slots.

    Attributes:
        grid: Tokens (rows, columns) of its images.
        blocks_B: Block of each sample, a place in the grid's blocks: int64 [B].
        rows_B: Its row in that block: int64 [B].
    """

    grid: Grid
    blocks_B: NDArray[np.int64]
    rows_B: NDArray[np.int64]


class SampleOrder:
    """The samples of all batches; safe to ask from several threads.

    It holds one permutation of blocks and a few of windows a grid, besides 8 bytes a grid for each 65 536
    batches up to the highest that was asked for.

    Attributes:
        batch_size: Samples of a batch.
        window_blocks: Blocks that are shuffled together.
    """

    def __init__(
        self,
        num_rows: Mapping[Grid, Sequence[int]],
        *,
        seed: int,
        batch_size: int,
        window_blocks: int,
    ) -> None:
        """Make the order of these samples.

        Args:
            num_rows: Rows of each block, by grid.
            seed: Of the order, 0 <= seed < 2^63.
            batch_size: Samples of a batch.
            window_blocks: Blocks that are shuffled together.
        """
        self.batch_size, self.window_blocks = batch_size, window_blocks
        # sorted, so that nothing hangs on which grid a dataset names first
        self._sequences = [
            _GridSequence(grid, num_rows[grid], seed=seed, window_blocks=window_blocks)
            for grid in sorted(num_rows)
        ]
        self._draws = _GridDraws([sequence.num_samples for sequence in self._sequences], seed)

    def batch(self, index: int) -> BatchPlan:
        """The samples of the batch of that number, from 0."""
        grid, number = self._draws.draw(index)
        sequence = self._sequences[grid]
        first = number * self.batch_size
        blocks_B, rows_B = sequence.samples(first, first + self.batch_size)
        return BatchPlan(grid=sequence.grid, blocks_B=blocks_B, rows_B=rows_B)

    def epoch(self, index: int) -> int:
        """Of the batch's first sample, from 0, counted by the samples of its grid."""
        grid, number = self._draws.draw(index)
        return number * self.batch_size // self._sequences[grid].num_samples


@dataclass(frozen=True, kw_only=True)
class _Epoch:
    """The blocks of an epoch in order, and where in it each window starts and the last one ends."""

    blocks: NDArray[np.int64]
    window_starts: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class _Window:
    """A window's blocks, the rows before each and in all, and the order in which its rows come."""

    blocks: NDArray[np.int64]
    block_starts: NDArray[np.int64]
    order: NDArray[np.uint32]


class _GridSequence:
    """The endless sequence of one grid's samples."""

    def __init__(self, grid: Grid, num_rows: Sequence[int], *, seed: int, window_blocks: int) -> None:
        self.grid = grid
        self.num_samples = sum(num_rows)
        self._num_rows = np.array(num_rows, np.int64)
        self._seed, self._window_blocks = seed, window_blocks
        self._epoch = lru_cache(2)(self._make_epoch)
        self._window = lru_cache(_CACHED_WINDOWS)(self._make_window)

    def samples(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Blocks and rows of the samples from one place of the sequence to another."""
        blocks, rows = [], []
        while start < stop:
            epoch, offset = divmod(start, self.num_samples)
            starts = self._epoch(epoch).window_starts
            number = int(np.searchsorted(starts, offset, side="right")) - 1
            window = self._window(epoch, number)
            begin = offset - int(starts[number])
            picked = window.order[begin : begin + stop - start]
            places = np.searchsorted(window.block_starts, picked, side="right") - 1
            blocks.append(window.blocks[places])
            rows.append(picked - window.block_starts[places])
            start += len(picked)
        return np.concatenate(blocks), np.concatenate(rows)

    def _make_epoch(self, epoch: int) -> _Epoch:
        blocks = self._permutation(len(self._num_rows), _BLOCK_STREAM, epoch, 0)
        firsts = np.arange(0, len(blocks), self._window_blocks)
        sizes = np.add.reduceat(self._num_rows[blocks], firsts)
        return _Epoch(blocks=blocks, window_starts=_starts(sizes))

    def _make_window(self, epoch: int, number: int) -> _Window:
        first = number * self._window_blocks
        blocks = self._epoch(epoch).blocks[first : first + self._window_blocks]
        starts = _starts(self._num_rows[blocks])
        order = self._permutation(int(starts[-1]), _ROW_STREAM, epoch, number)
        return _Window(blocks=blocks, block_starts=starts, order=order.astype(np.uint32))

    def _permutation(self, count: int, stream: int, epoch: int, window: int) -> NDArray[np.int64]:
        height, width = self.grid
        words = _words(count, self._seed, stream, (epoch, window, height << 32 | width))
        return np.argsort(words, kind="stable")


class _GridDraws:
    """The grid of each batch: drawn apart from all others, in proportion to the grids' samples."""

    def __init__(self, num_samples: Sequence[int], seed: int) -> None:
        self._ends, self._seed = np.cumsum(num_samples), seed
        self._chunk = lru_cache(2)(self._make_chunk)
        self._counts = [np.zeros(len(num_samples), np.int64)]
        self._lock = threading.Lock()

    def draw(self, index: int) -> tuple[int, int]:
        """The place of a batch's grid among the grids, and how many earlier batches have the same."""
        chunk, place = divmod(index, _CHUNK)
        grids, earlier = self._chunk(chunk)
        grid = int(grids[place])
        return grid, int(self._counts_before(chunk)[grid]) + int(earlier[place])

    def _make_chunk(self, chunk: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The grids of a chunk's batches, and how many batches before each in the chunk have the same."""
        grids = self._drawn(chunk)
        by_grid = np.argsort(grids, kind="stable")
        counts = np.bincount(grids, minlength=len(self._ends))
        earlier = np.empty_like(grids)
        earlier[by_grid] = np.arange(_CHUNK) - np.repeat(_starts(counts)[:-1], counts)
        return grids, earlier

    def _counts_before(self, chunk: int) -> NDArray[np.int64]:
        """How often each grid was drawn in all chunks before."""
        with self._lock:
            while len(self._counts) <= chunk:
                counts = np.bincount(self._drawn(len(self._counts) - 1), minlength=len(self._ends))
                self._counts.append(self._counts[-1] + counts)
            return self._counts[chunk]

    def _drawn(self, chunk: int) -> NDArray[np.int64]:
        uniform = (_words(_CHUNK, self._seed, _GRID_STREAM, (chunk, 0, 0)) >> 11) * 2.0**-53
        return np.searchsorted(self._ends, np.floor(uniform * self._ends[-1]), side="right")


def _starts(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of the sizes before each, and of all."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def _words(count: int, seed: int, stream: int, counter: tuple[int, int, int]) -> NDArray[np.uint64]:
    """64-bit words keyed by seed and stream.

    NumPy keeps these raw words as they are from version to version, but not what it would draw from them.
    """
    generator = np.random.Philox(
        key=np.array([seed, stream], np.uint64), counter=np.array([0, *counter], np.uint64)
    )
    return generator.random_raw(count)

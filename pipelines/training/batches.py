"""A worker's part of each global batch, assembled by a thread while the trainer computes.

Shapes: B global batch, b samples of one micro-batch, H x W grid, L text positions.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from meissonic.text import Tokenizer
from meissonic.training import TrainingBatch
from meissonic.training_noise import Stream, TrainingNoise
from pipelines.training.block_cache import BlockCache
from pipelines.training.order import SampleOrder
from pipelines.training.settings import CaptionSettings
from pipelines.training.token_store import Columns, TokenStore

_CACHE_BYTES = 1 << 30


class BatchLoader:
    """Assembles batches ahead of the trainer.

    Attributes:
        wait_s: Seconds that the trainer has waited for batches so far.
    """

    def __init__(
        self,
        store: TokenStore,
        order: SampleOrder,
        tokenizer: Tokenizer,
        *,
        seed: int,
        captions: CaptionSettings,
        rank: int,
        world_size: int,
        micro_batch_size: int,
        pin_memory: bool,
        prefetch: int = 2,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        """Make batches of these samples.

        Args:
            store: Where the samples are.
            order: Which samples a batch has: of the store's shards.
            tokenizer: Of the captions.
            seed: Of the choice of captions.
            captions: How they are chosen.
            rank: Of this worker.
            world_size: Number of workers, each of which has its part of every batch.
            micro_batch_size: Samples that go through the model at once.
            pin_memory: Whether tensors are in page-locked memory, for copies to a GPU beside its work.
            prefetch: Batches to be ahead of the trainer.
            cache_bytes: What shards may take in memory beyond those of the windows that are being read.
        """
        self._order, self._tokenizer, self._seed, self._captions = order, tokenizer, seed, captions
        self._slots = range(
            rank * order.batch_size // world_size, (rank + 1) * order.batch_size // world_size
        )
        self._micro_batch_size, self._pin_memory, self._prefetch = micro_batch_size, pin_memory, prefetch
        self._cache = BlockCache(store, window_blocks=order.window_blocks, size_bytes=cache_bytes)
        self._assembler = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.wait_s = 0.0

    def iterate(self, indices: Iterator[int]) -> Iterator[list[TrainingBatch]]:
        """This worker's micro-batches of each of these global batches.

        Raises:
            TokenStoreError: A shard is damaged.
            StorageError: A shard cannot be read.
        """
        ahead = deque[Future[list[TrainingBatch]]]()

        def begin(count: int) -> None:
            ahead.extend(self._assembler.submit(self._assemble, index) for index in islice(indices, count))

        begin(self._prefetch)
        while ahead:
            began = time.monotonic()
            batch = ahead.popleft().result()
            self.wait_s += time.monotonic() - began
            begin(1)
            yield batch

    def close(self) -> None:
        """End the threads; batches that were not taken are lost."""
        self._assembler.shutdown(cancel_futures=True)
        self._cache.close()

    def _assemble(self, index: int) -> list[TrainingBatch]:
        plan = self._order.batch(index)
        slots = np.arange(self._slots.start, self._slots.stop)
        blocks, rows = plan.blocks_B[slots], plan.rows_B[slots]
        samples = _gather(self._cache.get(plan.grid, np.unique(blocks).tolist()), blocks, rows)
        tokens, micro_conds = torch.from_numpy(samples.tokens), torch.from_numpy(samples.micro_conds)
        input_ids, pooled_ids = self._ids(samples, index, torch.from_numpy(slots))
        batches = []
        for start in range(0, len(slots), self._micro_batch_size):
            part = slice(start, start + self._micro_batch_size)
            ids_bL = self._ready(input_ids[part])
            batches.append(
                TrainingBatch(
                    index=index,
                    slots_B=self._ready(torch.from_numpy(slots[part])),
                    tokens_BHW=self._ready(tokens[part].to(torch.int64).view(-1, *plan.grid)),
                    micro_conds_B5=self._ready(micro_conds[part]),
                    input_ids_BL=ids_bL,
                    # the same object: the model then encodes once
                    pooled_ids_BL=ids_bL if pooled_ids is None else self._ready(pooled_ids[part]),
                )
            )
        return batches

    def _ids(self, samples: Columns, index: int, slots: Tensor) -> tuple[Tensor, Tensor | None]:
        """Token ids of the captions, and of those of the pooled output where they are drawn apart."""
        noise, share = TrainingNoise(self._seed, index, slots), self._captions.alternative_share
        captions = choose_captions(samples, noise.uniform(Stream.CAPTION).tolist(), share)
        # Decided by the settings, not by the captions drawn: all workers must encode equally often.
        if not (self._captions.separate_pooled and share):
            return self._tokenizer(captions), None
        pooled = choose_captions(samples, noise.uniform(Stream.POOLED_CAPTION).tolist(), share)
        return self._tokenizer(captions), self._tokenizer(pooled)

    def _ready(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self._pin_memory else tensor


def choose_captions(samples: Columns, uniform: Sequence[float], alternative_share: float) -> list[str]:
    """A caption for each sample: with this probability one of its alternatives, all alike, else its own.

    Args:
        samples: The samples; where one has no alternatives it keeps its caption.
        uniform: A draw from [0, 1) for each.
        alternative_share: The probability.
    """
    return [
        others[int(drawn / alternative_share * len(others))] if others and drawn < alternative_share else own
        for own, others, drawn in zip(samples.captions, samples.alternatives, uniform, strict=True)
    ]


def _gather(columns: dict[int, Columns], blocks: NDArray[np.int64], rows: NDArray[np.int64]) -> Columns:
    """These rows of these blocks."""
    first = next(iter(columns.values()))
    tokens = np.empty((len(rows), first.tokens.shape[1]), first.tokens.dtype)
    micro_conds = np.empty((len(rows), first.micro_conds.shape[1]), first.micro_conds.dtype)
    for block, held in columns.items():
        places = blocks == block
        tokens[places] = held.tokens[rows[places]]
        micro_conds[places] = held.micro_conds[rows[places]]
    pairs = list(zip(blocks.tolist(), rows.tolist(), strict=True))
    return Columns(
        tokens=tokens,
        micro_conds=micro_conds,
        captions=[columns[block].captions[row] for block, row in pairs],
        alternatives=[columns[block].alternatives[row] for block, row in pairs],
    )

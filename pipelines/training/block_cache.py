"""The shards of a token store that a worker holds in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from pipelines.training.token_store import Columns, TokenStore, read_block
from schemas.tokens import Grid

_THREADS = 8
"""Shards that are read at the same time: at the start of a window all of its are missing."""


class BlockCache:
    """The shards used last; of each grid at least a window's, as every batch needs rows of most of them."""

    def __init__(self, store: TokenStore, *, window_blocks: int, size_bytes: int) -> None:
        """Hold shards of this store.

        Args:
            store: The store.
            window_blocks: Shards of a grid that stay, however large they are.
            size_bytes: What all shards may take in memory, as far as `window_blocks` allows.
        """
        self._store, self._window_blocks, self._limit = store, window_blocks, size_bytes
        self._held: dict[Grid, OrderedDict[int, tuple[Columns, int]]] = {
            grid: OrderedDict() for grid in store.blocks
        }
        self._size_bytes = 0
        self._readers = ThreadPoolExecutor(_THREADS, thread_name_prefix="token-shards")

    def get(self, grid: Grid, numbers: Collection[int]) -> dict[int, Columns]:
        """The shards of these numbers among the grid's.

        Raises:
            TokenStoreError: One is damaged.
            StorageError: One cannot be read.
        """
        held = self._held[grid]
        missing = [number for number in numbers if number not in held]
        blocks = self._store.blocks[grid]
        read = self._readers.map(lambda number: read_block(self._store, blocks[number], grid), missing)
        for number, columns in zip(missing, read, strict=True):
            size_bytes = columns.size_bytes
            held[number] = columns, size_bytes
            self._size_bytes += size_bytes
        for number in numbers:
            held.move_to_end(number)
        found = {number: held[number][0] for number in numbers}
        self._drop(held)
        return found

    def close(self) -> None:
        """End the reading threads."""
        self._readers.shutdown(cancel_futures=True)

    def _drop(self, held: OrderedDict[int, tuple[Columns, int]]) -> None:
        while self._size_bytes > self._limit and len(held) > self._window_blocks:
            _, (_, size_bytes) = held.popitem(last=False)
            self._size_bytes -= size_bytes

"""Shards stay in memory while a window needs them, and as long as there is room."""

from pathlib import Path

import pytest

from pipelines.training import block_cache
from pipelines.training.block_cache import BlockCache
from pipelines.training.order import Grid
from pipelines.training.token_store import (
    Columns,
    TokenBlock,
    TokenStore,
    TokenStoreError,
    open_token_stores,
    read_block,
)
from tests.pipelines.training.made_tokens import Shard, write_tokens

GRID = (2, 2)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the shards that were read."""
    paths: list[str] = []

    def recorded(store: TokenStore, block: TokenBlock, grid: Grid) -> Columns:
        paths.append(block.path)
        return read_block(store, block, grid)

    monkeypatch.setattr(block_cache, "read_block", recorded)
    return paths


def cache_of(folder: Path, *, window_blocks: int, size_bytes: int) -> BlockCache:
    store = open_token_stores([write_tokens(folder, [Shard(num_rows=2)] * 6)])
    return BlockCache(store, window_blocks=window_blocks, size_bytes=size_bytes)


def test_shards_that_fit_are_read_once(tmp_path: Path, reads: list[str]) -> None:
    cache = cache_of(tmp_path, window_blocks=1, size_bytes=1 << 20)
    for _ in range(2):
        found = cache.get(GRID, range(6))
    cache.close()
    assert len(reads) == 6
    assert [found[number].captions[0] for number in range(6)] == [f"{2 * number} own" for number in range(6)]


def test_a_windows_shards_stay_however_large_they_are(tmp_path: Path, reads: list[str]) -> None:
    cache = cache_of(tmp_path, window_blocks=3, size_bytes=0)
    for numbers in ([0, 1, 2], [2], [0, 1]):
        cache.get(GRID, numbers)
    cache.close()
    assert len(reads) == 3


def test_the_shard_that_was_not_used_for_longest_goes_first(tmp_path: Path, reads: list[str]) -> None:
    cache = cache_of(tmp_path, window_blocks=2, size_bytes=0)
    for number in (0, 1, 0, 2):
        cache.get(GRID, [number])
    del reads[:]
    cache.get(GRID, [0, 2])
    assert reads == []
    cache.get(GRID, [1])
    cache.close()
    assert reads == ["data/00001-ab.2x2.parquet"]


def test_a_damaged_shard_is_told_and_the_others_stay_of_use(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, window_blocks=2, size_bytes=1 << 20)
    (tmp_path / "data/00001-ab.2x2.parquet").write_bytes(b"")
    with pytest.raises(TokenStoreError, match="00001"):
        cache.get(GRID, [0, 1])
    assert cache.get(GRID, [0, 2]).keys() == {0, 2}
    cache.close()

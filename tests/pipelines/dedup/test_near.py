"""No pair within the distance is missed, and none is told twice."""

import itertools

import numpy as np
import pytest

from pipelines.dedup import near
from pipelines.dedup.near import BlockTable, block_tables, near_pairs, num_blocks
from pipelines.scorers.phash import hamming

NONE = np.zeros(0, np.uint64)


def with_copies(count: int, seed: int, most_flips: int) -> np.ndarray:
    """Distinct hashes: random ones, and copies of them of which some bits are turned."""
    rng = np.random.default_rng(seed)
    originals = rng.integers(0, 2**64, count, dtype=np.uint64)
    flips = np.zeros(count, np.uint64)
    for _ in range(most_flips):
        turned = rng.integers(0, 2, count, dtype=np.uint64)
        flips ^= turned << rng.integers(0, 64, count, dtype=np.uint64)
    return rng.permutation(np.unique(np.concatenate([originals, originals ^ flips])))


def brute_force(hashes: np.ndarray, max_distance: int) -> set[tuple[int, int, int]]:
    hashes = np.sort(hashes)
    distances = hamming(hashes[:, None], hashes[None])
    i, j = np.nonzero(np.triu(distances <= max_distance, 1))
    return set(zip(hashes[i].tolist(), hashes[j].tolist(), distances[i, j].tolist(), strict=True))


def found(
    hashes: np.ndarray, tables: list[BlockTable], max_distance: int, others: np.ndarray = NONE
) -> list[tuple[int, int, int]]:
    pieces = [piece for table in tables for piece in near_pairs(hashes, others, table, max_distance)]
    return [pair for piece in pieces for pair in zip(*(part.tolist() for part in piece), strict=True)]


@pytest.mark.parametrize(
    ("max_distance", "blocks"),
    [(0, 1), (0, 3), (1, 2), (1, 5), (3, 4), (3, 7), (6, 7), (6, 8), (6, 9), (6, 10), (16, 17)],
)
def test_exactly_the_pairs_of_brute_force(max_distance: int, blocks: int) -> None:
    hashes = with_copies(300, seed=blocks, most_flips=max_distance + 2)
    pairs = found(hashes, block_tables(blocks, max_distance), max_distance)
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == brute_force(hashes, max_distance)
    assert max_distance == 0 or len(pairs) > 100


def test_hashes_that_agree_on_most_bits_are_compared_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "PLACES", 64)
    crowded = np.random.default_rng(0).permutation(np.arange(1500, dtype=np.uint64) << np.uint64(20))
    hashes = np.concatenate([crowded, with_copies(100, seed=1, most_flips=3)])
    pairs = found(hashes, block_tables(5, 2), 2)
    assert len(pairs) == len(set(pairs)) > 10_000
    assert set(pairs) == brute_force(hashes, 2)


def test_pairs_with_other_hashes_are_found_too() -> None:
    hashes, others = np.split(with_copies(400, seed=2, most_flips=6), [200])
    pairs = found(hashes, block_tables(8, 6), 6, others)
    own = set(hashes.tolist())
    wanted = {pair for pair in brute_force(np.concatenate([hashes, others]), 6) if own & set(pair[:2])}
    assert len(pairs) == len(set(pairs))
    assert {pair for pair in pairs if own & set(pair[:2])} == wanted
    assert any(pair[0] not in own or pair[1] not in own for pair in wanted)


def test_no_hashes_have_no_pairs() -> None:
    assert (
        found(NONE, block_tables(8, 6), 6) == found(NONE, block_tables(8, 6), 6, with_copies(9, 0, 1)) == []
    )


def test_moving_bits_can_be_undone() -> None:
    hashes = with_copies(50, seed=3, most_flips=1)
    for table in block_tables(9, 6):
        moved = table.moved(hashes)
        assert np.array_equal(table.restored(moved), hashes)
        assert np.array_equal(np.bitwise_count(moved), np.bitwise_count(hashes))


def test_more_hashes_are_cut_into_more_blocks() -> None:
    chosen = [num_blocks(10**exponent, 6) for exponent in range(10)]
    assert chosen == sorted(chosen)
    assert chosen[0] == 7
    assert chosen[6] == 8
    assert len(block_tables(chosen[6], 6)) == len(list(itertools.combinations(range(8), 2)))

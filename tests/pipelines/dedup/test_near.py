"""No pair within the distance is missed, and none is told twice."""

import itertools

import numpy as np
import pytest

from pipelines.dedup.near import block_masks, near_pairs
from pipelines.scorers.phash import hamming


def hashes_with_copies(count: int, seed: int, max_flips: int) -> np.ndarray:
    """Random hashes, each with a copy of which some bits are turned."""
    rng = np.random.default_rng(seed)
    originals = rng.integers(0, 2**64, count, dtype=np.uint64)
    flips = np.zeros(count, np.uint64)
    for _ in range(max_flips):
        flips ^= np.uint64(1) << rng.integers(0, 64, count, dtype=np.uint64)
    return np.concatenate([originals, originals ^ flips])


def brute_force(hashes: np.ndarray, max_distance: int) -> set[tuple[int, int, int]]:
    distances = hamming(hashes[:, None], hashes[None])
    first, second = np.nonzero(np.triu(distances <= max_distance, 1))
    return {(int(i), int(j), int(distances[i, j])) for i, j in zip(first, second, strict=True)}


def found(hashes: np.ndarray, masks: list[int], max_distance: int) -> list[tuple[int, int, int]]:
    tables = [near_pairs(hashes, masks, table, max_distance) for table in range(len(masks))]
    return [tuple(map(int, pair)) for table in tables for pair in zip(*table, strict=True)]


@pytest.mark.parametrize(
    ("max_distance", "pretended"), list(itertools.product([0, 1, 3, 6], [100, 10**5, 10**9]))
)
def test_exactly_the_pairs_of_brute_force(max_distance: int, pretended: int) -> None:
    hashes = hashes_with_copies(300, seed=max_distance, max_flips=8)
    pairs = found(hashes, block_masks(pretended, max_distance), max_distance)
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == brute_force(hashes, max_distance)


def test_hashes_that_agree_on_most_bits_are_no_trouble() -> None:
    hashes = np.arange(600, dtype=np.uint64)
    pairs = found(hashes, block_masks(600, 2), 2)
    assert set(pairs) == brute_force(hashes, 2)


def test_more_hashes_are_cut_into_more_blocks() -> None:
    assert len(block_masks(1_000, 6)) < len(block_masks(10**6, 6)) < len(block_masks(10**9, 6))

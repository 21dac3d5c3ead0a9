"""All pairs of 64-bit hashes within a Hamming distance, without comparing all with all.

Cut into m blocks, two hashes that differ in at most d bits agree entirely on at least m - d of them. So for
each choice of m - d blocks the hashes are sorted by those bits, and only those that agree on them compared:
Manku, Jain and Das Sarma, "Detecting near-duplicates for web crawling", WWW 2007.

N hashes, K candidates.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.scorers.phash import hamming

BITS = 64
MAX_BLOCKS = 12
Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]


def block_masks(num_hashes: int, max_distance: int) -> list[int]:
    """The bits that each table sorts by, for the number of blocks at which the least work is expected.

    Sorting costs about 20 comparisons a hash; hashes that agree by chance cost one a pair.
    """

    def cost(blocks: int) -> float:
        tables = math.comb(blocks, max_distance)
        key_bits = BITS * (blocks - max_distance) / blocks
        return tables * num_hashes * (20 + num_hashes / 2 ** (key_bits + 1))

    blocks = min(range(max_distance + 1, max(MAX_BLOCKS, max_distance + 2) + 1), key=cost)
    edges = np.linspace(0, BITS, blocks + 1).round().astype(int).tolist()
    masks = [((1 << (stop - start)) - 1) << start for start, stop in itertools.pairwise(edges)]
    return [sum(chosen) for chosen in itertools.combinations(masks, blocks - max_distance)]


def near_pairs(
    hashes_N: Hashes, masks: Sequence[int], table: int, max_distance: int
) -> tuple[Indices, Indices, NDArray[np.uint8]]:
    """The pairs that a table finds and none before it does: indices i < j, and their distance.

    Args:
        hashes_N: The hashes.
        masks: Of all tables.
        table: Which of them.
        max_distance: Bits.
    """
    found: list[tuple[Indices, Indices, NDArray[np.uint8]]] = []
    for first_K, second_K in _agreeing(hashes_N, np.uint64(masks[table])):
        distance_K = hamming(hashes_N[first_K], hashes_N[second_K])
        close = distance_K <= max_distance
        first_K, second_K, distance_K = first_K[close], second_K[close], distance_K[close]
        differ_K = hashes_N[first_K] ^ hashes_N[second_K]
        is_new = np.ones(len(differ_K), bool)
        for earlier in masks[:table]:
            is_new &= (differ_K & np.uint64(earlier)) != 0
        found.append((first_K[is_new], second_K[is_new], distance_K[is_new]))
    first, second, distance = (
        (np.concatenate([pair[n] for pair in found]) for n in range(3))
        if found
        else (
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
            np.zeros(0, np.uint8),
        )
    )
    first, second = np.minimum(first, second), np.maximum(first, second)
    order = np.lexsort((second, first))
    return first[order], second[order], distance[order]


def _agreeing(hashes_N: Hashes, mask: np.uint64) -> Iterator[tuple[Indices, Indices]]:
    """All pairs that agree on the mask's bits: neighbours in their order, then those two apart, and so on."""
    keys_N = hashes_N & mask
    order_N = np.argsort(keys_N, kind="stable")
    keys_N = keys_N[order_N]
    places = np.arange(len(keys_N) - 1)
    for apart in itertools.count(1):
        places = places[places + apart < len(keys_N)]
        places = places[
            keys_N[places] == keys_N[places + apart]
        ]  # those that no longer agree never will again
        if not len(places):
            return
        yield order_N[places], order_N[places + apart]

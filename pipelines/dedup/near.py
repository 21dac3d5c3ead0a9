"""All pairs of 64-bit hashes within a Hamming distance, without comparing all with all.

Cut into m blocks, two hashes that differ in at most d bits agree entirely on at least m - d of them. So for
each choice of m - d blocks there is a table: the hashes with these blocks moved to the front, sorted, where
only those that agree on them are compared. Manku, Jain and Das Sarma, "Detecting near-duplicates for web
crawling", WWW 2007.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = 64
MAX_BLOCKS = 16
PLACES = 1 << 18
"""Hashes that are compared with those behind them at a time: what bounds the memory of a crowded bucket."""
_SORT_COST = 8.0
"""Of moving bits and sorting, in comparisons a hash; measured with 100 000 and a million random hashes."""

Hashes = NDArray[np.uint64]
Pairs = tuple[Hashes, Hashes, NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True)
class BlockTable:
    """A choice of blocks that must agree.

    Attributes:
        moves: Bits, and how far to the left they go; those of the chosen blocks come to the front.
        key_bits: Bits of the chosen blocks.
        skipped: Bits of each block that is not chosen before the last one that is. A pair that agrees on one
            of them has been found by an earlier table.
    """

    moves: tuple[tuple[int, int], ...]
    key_bits: int
    skipped: tuple[int, ...]

    def moved(self, hashes: Hashes) -> Hashes:
        """The hashes with the chosen blocks at the front."""
        return _shifted(hashes, self.moves)

    def restored(self, moved: Hashes) -> Hashes:
        """The hashes that `moved` made these of."""
        back = tuple((mask << shift if shift >= 0 else mask >> -shift, -shift) for mask, shift in self.moves)
        return _shifted(moved, back)

    def keys(self, moved: Hashes) -> Hashes:
        """The chosen blocks."""
        return moved >> np.uint64(BITS - self.key_bits) if self.key_bits else np.zeros_like(moved)


def num_blocks(num_hashes: int, max_distance: int) -> int:
    """The number of blocks with which random hashes cost the least: tables x (sorting + expected pairs)."""

    def cost(blocks: int) -> float:
        key_bits = BITS * (blocks - max_distance) / blocks
        return math.comb(blocks, max_distance) * num_hashes * (_SORT_COST + num_hashes / 2 ** (key_bits + 1))

    return min(range(max_distance + 1, max(MAX_BLOCKS, max_distance + 2) + 1), key=cost)


def block_tables(blocks: int, max_distance: int) -> list[BlockTable]:
    """A table for each choice of blocks, in the order of `itertools.combinations`.

    Args:
        blocks: Into how many the 64 bits are cut; more than `max_distance`.
        max_distance: Bits in which pairs may differ.
    """
    edges = [round(BITS * number / blocks) for number in range(blocks + 1)]
    tables = []
    for chosen in itertools.combinations(range(blocks), blocks - max_distance):
        skipped = [number for number in range(blocks) if number not in chosen]
        moves: list[tuple[int, int]] = []
        top = BITS
        for block in (*chosen, *skipped):
            start, stop = edges[block], edges[block + 1]
            top -= stop - start
            moves.append((((1 << (stop - start)) - 1) << start, top - start))
        tables.append(
            BlockTable(
                moves=_merged(moves),
                key_bits=sum(edges[block + 1] - edges[block] for block in chosen),
                skipped=tuple(
                    moves[blocks - max_distance + n][0] for n, b in enumerate(skipped) if b < chosen[-1]
                ),
            )
        )
    return tables


def near_pairs(hashes: Hashes, others: Hashes, table: BlockTable, max_distance: int) -> Iterator[Pairs]:
    """The pairs that a table finds and none before it does, a < b, and their distance; in pieces.

    Args:
        hashes: Distinct hashes.
        others: Distinct hashes that are none of these; of their pairs those with `hashes` are wanted, and of
            those among themselves some come too.
        table: Which blocks must agree.
        max_distance: Bits in which a pair may differ.
    """
    moved = np.sort(table.moved(hashes))
    if len(others) and len(moved):
        keys, moved_others = table.keys(moved), table.moved(others)
        other_keys = table.keys(moved_others)
        place = np.minimum(np.searchsorted(keys, other_keys), len(keys) - 1)
        moved = np.sort(np.concatenate([moved, moved_others[keys[place] == other_keys]]))
    for first, second in _agreeing(moved, table, max_distance):
        a, b = table.restored(first), table.restored(second)
        differ = a ^ b
        is_new = np.ones(len(a), bool)
        for mask in table.skipped:
            is_new &= (differ & np.uint64(mask)) != 0
        if is_new.any():
            a, b, differ = a[is_new], b[is_new], differ[is_new]
            yield np.minimum(a, b), np.maximum(a, b), np.bitwise_count(differ)


def _agreeing(moved: Hashes, table: BlockTable, max_distance: int) -> Iterator[tuple[Hashes, Hashes]]:
    """The close pairs among sorted hashes whose keys agree: neighbours, then those two apart, and so on."""
    keys = table.keys(moved)
    starts = (
        np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, int)
    )
    sizes = np.diff(np.append(starts, len(moved)))
    behind_N = np.repeat(starts + sizes, sizes) - np.arange(len(moved)) - 1
    del keys
    for start in range(0, len(moved), PLACES):
        behind = behind_N[start : start + PLACES]
        places = np.flatnonzero(behind)
        behind = behind[places]
        places += start
        for apart in itertools.count(1):
            if apart > 1:
                reach = behind >= apart
                places, behind = places[reach], behind[reach]
            if not len(places):
                break
            first, second = moved[places], moved[places + apart]
            close = np.flatnonzero(np.bitwise_count(first ^ second) <= max_distance)
            if len(close):
                yield first[close], second[close]


def _shifted(hashes: Hashes, moves: tuple[tuple[int, int], ...]) -> Hashes:
    result = np.zeros_like(hashes)
    for mask, shift in moves:
        bits = hashes & np.uint64(mask)
        result |= bits << np.uint64(shift) if shift >= 0 else bits >> np.uint64(-shift)
    return result


def _merged(moves: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Moves of the same length as one."""
    masks: dict[int, int] = {}
    for mask, shift in moves:
        masks[shift] = masks.get(shift, 0) | mask
    return tuple((mask, shift) for shift, mask in masks.items())

"""The samples of each batch: every one once an epoch, the same however they are asked for."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.training.order import BatchPlan, Grid, SampleOrder

WIDE, TALL, SQUARE = (2, 4), (4, 2), (3, 3)
Sample = tuple[Grid, int, int]

stores = st.dictionaries(
    st.sampled_from([WIDE, TALL, SQUARE]), st.lists(st.integers(1, 12), min_size=1, max_size=7), min_size=1
)


def order_of(
    num_rows: Mapping[Grid, Sequence[int]], *, seed: int = 1, batch_size: int = 4, window_blocks: int = 2
) -> SampleOrder:
    return SampleOrder(num_rows, seed=seed, batch_size=batch_size, window_blocks=window_blocks)


def samples(plan: BatchPlan) -> list[Sample]:
    pairs = zip(plan.blocks_B.tolist(), plan.rows_B.tolist(), strict=True)
    return [(plan.grid, block, row) for block, row in pairs]


def sequence(order: SampleOrder, grid: Grid, num_samples: int) -> list[Sample]:
    """The first samples of a grid, whatever batches they are in."""
    found: list[Sample] = []
    for index in count():
        plan = order.batch(index)
        found += samples(plan) if plan.grid == grid else []
        if len(found) >= num_samples:
            return found[:num_samples]
    raise AssertionError


@given(stores, st.integers(0, 2**63 - 1), st.integers(1, 9), st.integers(1, 9), st.integers(0, 200_000))
@settings(max_examples=20, deadline=None)
def test_any_batch_is_what_it_is_in_sequence(
    num_rows: dict[Grid, list[int]], seed: int, batch_size: int, window_blocks: int, first: int
) -> None:
    def order() -> SampleOrder:
        return order_of(num_rows, seed=seed, batch_size=batch_size, window_blocks=window_blocks)

    in_sequence, indices = order(), range(first, first + 12)
    expected = [in_sequence.batch(index) for index in indices]
    for index, plan in reversed(list(zip(indices, expected, strict=True))):
        alone = order().batch(index)
        assert samples(alone) == samples(plan)


@given(stores, st.integers(0, 99), st.integers(1, 30), st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_every_sample_comes_exactly_once_an_epoch(
    num_rows: dict[Grid, list[int]], seed: int, batch_size: int, window_blocks: int
) -> None:
    order = order_of(num_rows, seed=seed, batch_size=batch_size, window_blocks=window_blocks)
    for grid, blocks in num_rows.items():
        all_samples = {(grid, block, row) for block, size in enumerate(blocks) for row in range(size)}
        found = sequence(order, grid, 3 * len(all_samples))
        for epoch in range(3):
            part = found[epoch * len(all_samples) : (epoch + 1) * len(all_samples)]
            assert len(part) == len(all_samples)
            assert set(part) == all_samples


def test_a_batch_that_straddles_epochs_belongs_to_that_of_its_first_sample() -> None:
    order = order_of({SQUARE: [3, 4]}, batch_size=5)
    assert [order.epoch(index) for index in range(8)] == [0, 0, 1, 2, 2, 3, 4, 5]


def test_a_batch_may_be_larger_than_the_store() -> None:
    plan = order_of({SQUARE: [2]}, batch_size=7).batch(0)
    assert Counter(samples(plan)[:6]) == {(SQUARE, 0, 0): 3, (SQUARE, 0, 1): 3}


def test_a_store_of_one_block_is_shuffled_anew_each_epoch() -> None:
    order = order_of({SQUARE: [64]}, batch_size=64)
    first, second = (order.batch(index).rows_B.tolist() for index in (0, 1))
    assert sorted(first) == sorted(second) == list(range(64))
    assert first != second
    assert first != sorted(first)


def test_another_seed_gives_another_order() -> None:
    one, other = (order_of({SQUARE: [50] * 4}, seed=seed).batch(0) for seed in (1, 2))
    assert samples(one) != samples(other)


def test_grids_come_in_proportion_to_their_samples() -> None:
    order = order_of({WIDE: [10] * 6, TALL: [10] * 3, SQUARE: [10]}, batch_size=2)
    drawn = Counter(order.batch(index).grid for index in range(4000))
    assert abs(drawn[WIDE] / 4000 - 0.6) < 0.03
    assert abs(drawn[TALL] / 4000 - 0.3) < 0.03
    assert abs(drawn[SQUARE] / 4000 - 0.1) < 0.03


def test_grids_are_mixed_over_time() -> None:
    order = order_of({WIDE: [10] * 5, TALL: [10] * 5}, batch_size=2)
    first, later = ([order.batch(index).grid for index in range(at, at + 64)] for at in (0, 64))
    assert 16 < first.count(WIDE) < 48
    assert first != later


def test_the_order_in_which_grids_are_named_does_not_matter() -> None:
    one, other = order_of({WIDE: [9], TALL: [5]}), order_of({TALL: [5], WIDE: [9]})
    assert all(samples(one.batch(index)) == samples(other.batch(index)) for index in range(20))


def test_a_window_mixes_its_blocks() -> None:
    num_rows, window_blocks = [100] * 32, 8
    order = order_of({SQUARE: num_rows}, batch_size=100, window_blocks=window_blocks)
    for window in range(4):
        plans = [order.batch(8 * window + number) for number in range(8)]
        blocks = np.concatenate([plan.blocks_B for plan in plans])
        assert len(set(blocks.tolist())) == window_blocks
        for plan in plans:  # 12.5 of each are expected
            assert all(1 <= n <= 35 for n in np.bincount(plan.blocks_B, minlength=32)[np.unique(blocks)])
        rows = np.concatenate([plan.rows_B for plan in plans])
        assert abs(np.corrcoef(rows, np.arange(800))[0, 1]) < 0.15


def test_windows_have_other_blocks_each_epoch() -> None:
    order = order_of({SQUARE: [10] * 32}, batch_size=80, window_blocks=8)
    first, second = (set(order.batch(index).blocks_B.tolist()) for index in (0, 4))
    assert len(first) == len(second) == 8
    assert first != second


def test_threads_that_ask_at_once_get_the_same() -> None:
    num_rows = {WIDE: [5] * 20, TALL: [7] * 10}
    alone, shared = order_of(num_rows), order_of(num_rows)
    indices = [1, 70_000, 3, 140_000] * 8
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(shared.batch, indices))
    assert [samples(plan) for plan in found] == [samples(alone.batch(index)) for index in indices]


def test_a_far_batch_of_a_large_store_comes_at_once() -> None:
    num_rows = {WIDE: [1000] * 60_000, TALL: [1000] * 40_000}
    began = time.perf_counter()
    order = order_of(num_rows, batch_size=2048, window_blocks=64)
    order.batch(1_000_000)
    assert time.perf_counter() - began < 1
    grid = order.batch(1_000_000).grid
    began = time.perf_counter()
    for _ in range(20):
        assert order.batch(1_000_000).grid == grid
    assert (time.perf_counter() - began) / 20 < 1e-3


def test_the_order_is_the_same_from_version_to_version() -> None:
    order = order_of({WIDE: [6, 3, 4], TALL: [5]}, seed=2**62 + 5)
    found = [
        (plan.grid, plan.blocks_B.tolist(), plan.rows_B.tolist()) for plan in map(order.batch, (0, 90_000))
    ]
    assert found == [(WIDE, [2, 2, 2, 1], [2, 1, 0, 2]), (WIDE, [1, 2, 2, 1], [0, 0, 3, 2])]

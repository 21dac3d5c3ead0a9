"""Equals are paired with the first of them."""

import numpy as np
import pytest

from pipelines.dedup.groups import equal_groups


def pairs_of(values: list[int], datasets: list[int]) -> list[tuple[int, int]]:
    groups = equal_groups(np.array(values), np.array(datasets, np.int32))
    return list(zip(groups.a.tolist(), groups.b.tolist(), strict=True))


def test_a_group_of_k_makes_k_minus_1_pairs() -> None:
    assert pairs_of([5, 7, 5, 3, 5, 7], [0] * 6) == [(0, 2), (0, 4), (1, 5)]


def test_the_first_of_a_group_is_paired_with_the_first_equal_of_each_other_dataset() -> None:
    values = [5, 5, 7, 5, 5, 9, 9, 5, 7]
    datasets = [0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert pairs_of(values, datasets) == [(0, 1), (0, 3), (0, 7), (2, 8)]


def test_firsts_are_ordered_by_value_and_dataset() -> None:
    groups = equal_groups(np.array([7, 5, 5, 7, 5]), np.array([0, 0, 0, 1, 1], np.int32))
    assert groups.firsts.tolist() == [1, 4, 0, 3]


@pytest.mark.parametrize("datasets", [[], [1]])
def test_without_images_of_its_own_there_are_no_pairs(datasets: list[int]) -> None:
    assert pairs_of([1] * len(datasets), datasets) == []

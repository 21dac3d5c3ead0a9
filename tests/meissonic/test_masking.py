"""Schedules and re-masking."""

from __future__ import annotations

import itertools

import pytest
import torch

from meissonic.masking import masked_counts, masked_fraction, num_to_mask, remask


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_fewer_positions_stay_masked_after_every_step(schedule: str) -> None:
    counts = masked_counts(schedule, 256, 12)  # type: ignore[arg-type]
    assert counts[0] == 256
    assert all(later < earlier for earlier, later in itertools.pairwise(counts))


def test_linear_is_linear_and_cosine_is_cosine() -> None:
    assert masked_fraction("linear", 1, 4).item() == 0.75
    assert masked_fraction("cosine", 2, 4).item() == pytest.approx(0.5**0.5)


def test_at_least_one_position_is_masked_and_fewer_than_were_unknown() -> None:
    assert num_to_mask(torch.tensor(0.5), 10, torch.tensor([10, 4, 1])).tolist() == [5, 3, 1]


def test_least_confident_unknown_positions_are_masked_again() -> None:
    log_probs = torch.tensor([[-0.1, -3.0, -9.0, -2.0]])
    unknown = torch.tensor([[True, True, False, True]])
    again = remask(log_probs, unknown, torch.full((1, 4), 0.5), torch.tensor([2]), torch.tensor([0.0]))
    assert again.tolist() == [[False, True, False, True]]


def test_known_positions_are_never_masked_again() -> None:
    log_probs, unknown = torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool)
    assert not remask(log_probs, unknown, torch.rand(1, 3), torch.tensor([1]), torch.tensor([2.0])).any()

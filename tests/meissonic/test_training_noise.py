"""The randomness of training: each sample's own, wherever it is drawn."""

from __future__ import annotations

import pytest
import scipy.stats
import torch

from meissonic.training_noise import Stream, TrainingNoise

SLOTS = torch.arange(64)


def noise(seed: int = 7, index: int = 3, slots: torch.Tensor = SLOTS) -> TrainingNoise:
    return TrainingNoise(seed, index, slots)


def test_orders_are_permutations_and_differ_between_samples() -> None:
    order = noise().order(37)
    assert torch.equal(order.sort(dim=1).values, torch.arange(37).expand(64, -1))
    assert len(order.unique(dim=0)) == 64


def test_every_position_is_as_likely_in_every_place() -> None:
    orders = noise(slots=torch.arange(20_000)).order(5)
    for position in range(5):
        counts = torch.bincount(orders[:, position], minlength=5)
        assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("stream", Stream)
def test_draws_are_uniform(stream: Stream) -> None:
    drawn = noise(slots=torch.arange(20_000)).uniform(stream)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert scipy.stats.kstest(drawn.numpy(), "uniform").pvalue > 1e-3


def test_streams_seeds_and_batches_differ() -> None:
    drawn = [noise().uniform(stream) for stream in Stream]
    drawn += [noise(seed=seed).uniform(Stream.RATE) for seed in (8, 7 + 2**32)]
    drawn += [noise(index=index).uniform(Stream.RATE) for index in (4, 3 + 2**32, 3 + 2**40)]
    assert len(torch.stack(drawn).unique(dim=0)) == len(drawn)


def test_a_sample_s_draws_do_not_depend_on_which_others_are_drawn() -> None:
    some = torch.tensor([40, 3, 17])
    assert torch.equal(noise(slots=some).order(37), noise().order(37)[some])
    for stream in Stream:
        assert torch.equal(noise(slots=some).uniform(stream), noise().uniform(stream)[some])

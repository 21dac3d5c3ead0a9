"""Counter-based noise: known answers, the drawn distribution, independence of the batch."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meissonic.drawing import Draw, draw, draw_from_softmax
from meissonic.noise import PhiloxNoise, philox

ONES = 0xFFFFFFFF


def test_philox_gives_the_published_known_answers() -> None:
    def words(counter: int, key: int) -> list[int]:
        c, k = torch.tensor([counter]), torch.tensor([key])
        return [int(w) for w in philox((c, c, c, c), (k, k))]

    assert words(0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert words(ONES, ONES) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@pytest.mark.parametrize("way", [draw, draw_from_softmax])
def test_drawn_codes_follow_the_probabilities(way: Draw) -> None:
    num_draws = 200_000
    probs = torch.tensor([0.5, 0.0, 0.25, 0.2, 0.049, 0.001])
    positions = torch.arange(num_draws)[None]
    logits = probs.log().expand(1, num_draws, -1)
    codes, log_probs = PhiloxNoise([1234], "cpu", way).draw(3, positions, logits)
    torch.testing.assert_close(log_probs.exp(), probs[codes] / probs.sum())
    counts = torch.bincount(codes[0], minlength=len(probs))
    assert counts[1] == 0
    possible = probs > 0
    expected = probs[possible].double() / probs[possible].double().sum() * num_draws
    assert scipy.stats.chisquare(counts[possible].numpy(), expected.numpy()).pvalue > 1e-3


def test_uniforms_are_uniform_and_steps_are_independent() -> None:
    noise = PhiloxNoise([7], "cpu")
    first, second = (noise.confidence_uniform(step, 50_000)[0] for step in (0, 1))
    for uniform in (first, second, noise.start_uniform(50_000)[0]):
        assert scipy.stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-3
        assert uniform.min() >= 0
        assert uniform.max() < 1
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.02


@settings(max_examples=25, deadline=None)
@given(seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5), step=st.integers(0, 100))
def test_a_seed_draws_the_same_wherever_it_stands_in_a_batch(seeds: list[int], step: int) -> None:
    together = PhiloxNoise(seeds, "cpu").confidence_uniform(step, 64)
    for row, seed in zip(together, seeds, strict=True):
        assert torch.equal(row, PhiloxNoise([seed], "cpu").confidence_uniform(step, 64)[0])


def test_draws_at_some_positions_equal_draws_at_all() -> None:
    logits = torch.randn(1, 32, 16)
    everywhere, log_probs = PhiloxNoise([5], "cpu").draw(2, torch.arange(32)[None], logits)
    some = torch.tensor([[3, 17, 30]])
    drawn, of_drawn = PhiloxNoise([5], "cpu").draw(2, some, logits[:, some[0]])
    assert torch.equal(drawn, everywhere[:, some[0]])
    assert torch.equal(of_drawn, log_probs[:, some[0]])

"""Approximate ways to sample: off by default, whole images all the same, and independent of the batch."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from meissonic import Meissonic, RequestError, Sampler, SamplerConfig, SampleRequest
from meissonic.masking import halton_ranks
from meissonic.noise import PhiloxNoise
from meissonic.requests import batch_shape

EXACT = SamplerConfig(num_steps=6, guidance_scale=3.0)
MODES: dict[str, dict[str, Any]] = {
    "halton": {"unmasking": "halton"},
    "threshold": {"unmasking": "threshold", "confidence_threshold": 0.02},
    "late guidance": {"guidance_interval": (0.5, 1.0)},
    "early guidance": {"guidance_interval": (0.0, 0.5)},
    "reuse": {"reuse_interval": 2},
    "reuse and late guidance": {"reuse_interval": 3, "guidance_interval": (0.4, 1.0)},
}


@pytest.fixture(scope="module")
def unit(model: Meissonic) -> int:
    return model.vq.config.factor * (2 if model.transformer.config.downsample else 1)


def requests(unit: int, changes: dict[str, Any]) -> list[SampleRequest]:
    config = dataclasses.replace(EXACT, **changes)
    return [
        SampleRequest(
            prompt=f"prompt {i}",
            seed=i,
            width=4 * unit,
            height=4 * unit,
            config=config,
            negative_prompt="x" * i,
        )
        for i in range(4)
    ]


def tokens_of(model: Meissonic, wanted: list[SampleRequest]) -> Tensor:
    ((_, tokens),) = Sampler(model).sample(wanted, batch_size=4)
    return tokens


def features_computed(
    model: Meissonic, wanted: list[SampleRequest], monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Samples in each pass through the blocks."""
    sampler, passes = Sampler(model), []
    features = sampler.network.features

    def counted(tokens: Tensor, *arguments: Any, **named: Any) -> Tensor:
        passes.append(len(tokens))
        return features(tokens, *arguments, **named)

    monkeypatch.setattr(sampler.network, "features", counted)
    list(sampler.sample(wanted, batch_size=4))
    return passes


def test_the_default_is_exact() -> None:
    assert SamplerConfig().approximations == {}
    for changes in MODES.values():
        assert dataclasses.replace(EXACT, **changes).approximations


@pytest.mark.parametrize("mode", MODES)
def test_samples_are_whole_and_the_same_alone_and_in_any_order(
    model: Meissonic, unit: int, mode: str
) -> None:
    wanted = requests(unit, MODES[mode])
    together = tokens_of(model, wanted)
    assert (together < model.transformer.config.codebook_size).all()
    assert torch.equal(tokens_of(model, wanted[::-1]), together.flip(0))
    for request, expected in zip(wanted, together, strict=True):
        assert torch.equal(tokens_of(model, [request])[0], expected)


@pytest.mark.parametrize("mode", MODES)
def test_it_is_another_sampler(model: Meissonic, unit: int, mode: str) -> None:
    assert not torch.equal(
        tokens_of(model, requests(unit, MODES[mode])), tokens_of(model, requests(unit, {}))
    )


def test_steps_without_guidance_have_one_half(
    model: Meissonic, unit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = requests(unit, {"guidance_interval": (0.5, 1.0)})
    assert features_computed(model, late, monkeypatch) == [4, 4, 4, 8, 8, 8]


def test_sure_codes_are_decided_at_once(model: Meissonic, unit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sure = requests(unit, {"unmasking": "threshold", "confidence_threshold": 1e-6})
    assert len(features_computed(model, sure, monkeypatch)) == 2  # one step: its first half is kept
    unsure = requests(unit, {"unmasking": "threshold", "confidence_threshold": 1.0})
    assert len(features_computed(model, unsure, monkeypatch)) == EXACT.num_steps + 1


def test_without_sure_codes_threshold_follows_the_schedule(model: Meissonic, unit: int) -> None:
    unsure = requests(unit, {"unmasking": "threshold", "confidence_threshold": 1.0})
    assert torch.equal(tokens_of(model, unsure), tokens_of(model, requests(unit, {})))


def test_halton_decides_the_same_positions_in_every_image(model: Meissonic, unit: int) -> None:
    wanted = requests(unit, {"unmasking": "halton"})
    sampler, noise = Sampler(model), PhiloxNoise([0, 1, 2, 3], "cpu")
    masked: list[Tensor] = []
    batch = sampler.prepare(wanted, batch_shape(model, wanted[0]), noise)
    mask = model.scheduler.mask_token_id
    sampler.run(batch, noise, lambda _step, tokens, _drawn: masked.append(tokens == mask))
    assert all(torch.equal(one, one[:1].expand_as(one)) for one in masked)


def test_halton_ranks_are_a_permutation_that_begins_spread_out() -> None:
    ranks = halton_ranks(6, 10)
    assert sorted(ranks.tolist()) == list(range(60))
    first = (ranks < 4).nonzero()[:, 0]
    rows, columns = first // 10, first % 10
    assert (rows < 3).sum() == 2
    assert 1 <= (columns < 5).sum() <= 3


def test_threshold_needs_to_begin_with_nothing(model: Meissonic, unit: int) -> None:
    (request, *_) = requests(unit, MODES["threshold"])
    image = torch.zeros(3, request.height, request.width)
    with pytest.raises(RequestError, match="unmasking is 'threshold'"):
        Sampler(model).sample([dataclasses.replace(request, image=image)], batch_size=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unmasking": "spiral"}, "unmasking is 'spiral'"),
        ({"confidence_threshold": 0.0}, "confidence_threshold is 0.0"),
        ({"guidance_interval": (0.6, 0.5)}, "guidance_interval is"),
        ({"reuse_interval": 0}, "reuse_interval is 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplerConfig(**changes)


def test_the_fast_preset_is_an_approximation_of_a_quarter_of_the_steps() -> None:
    fast = SamplerConfig(num_steps=18, softmax_temperature=0.4).fast()
    assert (fast.num_steps, fast.softmax_temperature) == (5, 0.2)
    assert fast.approximations == {"unmasking": "halton"}

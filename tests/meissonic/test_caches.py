"""Values are computed once while they are kept, and forgotten when there are too many."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from meissonic import Meissonic, Sampler, SamplerConfig, SampleRequest
from meissonic.inference.caches import Cache


def test_what_is_kept_is_not_computed_again() -> None:
    computed: list[str] = []

    def shout(missing: Sequence[str]) -> list[str]:
        computed.extend(missing)
        return [text.upper() for text in missing]

    cache: Cache[str, str] = Cache(3)
    assert cache.get_all(["a", "b", "a"], shout) == ["A", "B", "A"]
    assert cache.get_all(["b", "c"], shout) == ["B", "C"]
    assert computed == ["a", "b", "c"]
    # more than three: those of the last call stay
    assert cache.get_all(["d", "a"], shout) == ["D", "A"]
    assert cache.get_all(["a", "d", "b"], shout) == ["A", "D", "B"]
    assert computed == ["a", "b", "c", "d", "b"]


def test_a_call_may_ask_for_more_than_is_kept() -> None:
    cache: Cache[int, int] = Cache(1)
    assert cache.get_all(range(5), lambda missing: [2 * key for key in missing]) == [0, 2, 4, 6, 8]
    nothing: Cache[int, int] = Cache(0)
    assert nothing.get_all([1, 1], lambda missing: [2 * key for key in missing]) == [2, 2]


def test_a_negative_prompt_is_encoded_and_passed_through_the_first_step_once(
    model: Meissonic, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 4 * model.vq.config.factor
    sampler, texts, passes = Sampler(model), [], []
    encode, features = model.text_encoder.forward, sampler.network.features

    def encoded(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        texts.append(len(ids))
        return encode(ids)

    def counted(tokens: torch.Tensor, *arguments: object) -> torch.Tensor:
        passes.append(len(tokens))
        return features(tokens, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(model.text_encoder, "forward", encoded)
    monkeypatch.setattr(sampler.network, "features", counted)
    config = SamplerConfig(num_steps=2, guidance_scale=3.0)
    for first in (0, 2):
        requests = [
            SampleRequest(prompt=f"p {i}", seed=i, width=side, height=side, config=config)
            for i in (first, first + 1)
        ]
        list(sampler.sample(requests, batch_size=2))
    assert texts == [2, 2, 2]  # prompts and negative prompts; then prompts alone
    assert passes == [2, 2, 4, 2, 4]

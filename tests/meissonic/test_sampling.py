"""The sampler's promises: samples depend on their own row, any size works, bad requests are refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from meissonic import Meissonic, RequestError, Sampler, SamplerConfig, SampleRequest
from meissonic.config import TextConfig
from meissonic.text import TextEncoder
from meissonic.transformer import Transformer

FAST = SamplerConfig(num_steps=5, guidance_scale=3.0)


@pytest.fixture(scope="module")
def unit(model: Meissonic) -> int:
    """The least side in pixels."""
    return model.vq.config.factor * (2 if model.transformer.config.downsample else 1)


def requests(unit: int, count: int) -> list[SampleRequest]:
    return [
        SampleRequest(
            prompt=f"prompt {i}",
            negative_prompt="blurry" * (i % 2),
            seed=1000 + i,
            width=4 * unit,
            height=2 * unit,
            config=dataclasses.replace(FAST, guidance_scale=2.0 + i, temperature=(1.0 + i, 0.0)),
        )
        for i in range(count)
    ]


def tokens_of(model: Meissonic, wanted: list[SampleRequest], batch_size: int = 4) -> list[Tensor]:
    out: dict[int, Tensor] = {}
    for indices, tokens in Sampler(model).sample(wanted, batch_size=batch_size):
        out.update(zip(indices, tokens, strict=True))
    assert sorted(out) == list(range(len(wanted)))
    return [out[i] for i in range(len(wanted))]


def test_tokens_are_the_same_alone_in_any_batch_in_any_order_and_again(model: Meissonic, unit: int) -> None:
    wanted = requests(unit, 7)
    together = tokens_of(model, wanted)
    for request, expected in zip(wanted, together, strict=True):
        assert torch.equal(tokens_of(model, [request])[0], expected)
    order = [4, 0, 6, 2, 5, 1, 3]
    for index, shuffled in zip(order, tokens_of(model, [wanted[i] for i in order]), strict=True):
        assert torch.equal(shuffled, together[index])
    other = SampleRequest(prompt="another size", seed=1, width=2 * unit, height=2 * unit, config=FAST)
    mixed = tokens_of(model, [other, *wanted, dataclasses.replace(other, seed=2)])
    assert all(torch.equal(a, b) for a, b in zip(mixed[1:-1], together, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(tokens_of(model, wanted), together, strict=True))


def test_image_to_image_and_inpainting_do_not_depend_on_the_batch(model: Meissonic, unit: int) -> None:
    image = torch.rand(3, 2 * unit, 4 * unit, generator=torch.Generator().manual_seed(0))
    grid = (2 * unit // model.vq.config.factor, 4 * unit // model.vq.config.factor)
    left = torch.zeros(grid, dtype=torch.bool)
    left[:, : grid[1] // 2] = True
    base = requests(unit, 4)
    wanted = [dataclasses.replace(r, image=image, strength=0.6) for r in base]
    wanted += [dataclasses.replace(r, image=image, mask=left) for r in base[:2]]
    together = tokens_of(model, wanted)
    for request, expected in zip(wanted, together, strict=True):
        assert torch.equal(tokens_of(model, [request])[0], expected)


def test_seeds_settings_and_prompts_change_the_tokens(model: Meissonic, unit: int) -> None:
    base = dataclasses.replace(requests(unit, 1)[0], width=8 * unit, height=8 * unit)
    variants = [
        base,
        dataclasses.replace(base, seed=base.seed + 1),
        dataclasses.replace(base, prompt="something else entirely"),
        dataclasses.replace(base, config=dataclasses.replace(FAST, guidance_scale=8.0)),
        dataclasses.replace(base, config=dataclasses.replace(FAST, softmax_temperature=0.2)),
    ]
    drawn = tokens_of(model, variants)
    assert all(not torch.equal(drawn[0], other) for other in drawn[1:])


def test_inpainting_keeps_the_tokens_outside_the_mask(model: Meissonic, unit: int) -> None:
    image = torch.rand(3, 2 * unit, 2 * unit, generator=torch.Generator().manual_seed(1))
    codes = model.vq.encode(image[None])[0]
    mask = torch.zeros(codes.shape, dtype=torch.bool)
    mask[0, 0] = mask[1, -1] = True
    request = SampleRequest(
        prompt="p", seed=3, width=2 * unit, height=2 * unit, config=FAST, image=image, mask=mask
    )
    tokens = tokens_of(model, [request])[0]
    assert torch.equal(tokens[~mask], codes[~mask])
    assert (tokens < model.transformer.config.codebook_size).all()


def test_outpainting_fills_a_larger_canvas(model: Meissonic, unit: int) -> None:
    canvas = torch.zeros(3, 2 * unit, 4 * unit)
    canvas[:, :, :unit] = 0.5
    mask = torch.ones(
        2 * unit // model.vq.config.factor, 4 * unit // model.vq.config.factor, dtype=torch.bool
    )
    mask[:, : unit // model.vq.config.factor] = False
    request = SampleRequest(
        prompt="p", seed=3, width=4 * unit, height=2 * unit, config=FAST, image=canvas, mask=mask
    )
    tokens = tokens_of(model, [request])[0]
    assert torch.equal(tokens[~mask], model.vq.encode(canvas[None])[0][~mask])


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_image_to_image_keeps_less_with_more_strength(model: Meissonic, unit: int, strength: float) -> None:
    image = torch.rand(3, 4 * unit, 4 * unit, generator=torch.Generator().manual_seed(1))
    request = SampleRequest(
        prompt="p", seed=3, width=4 * unit, height=4 * unit, config=FAST, image=image, strength=strength
    )
    kept = (tokens_of(model, [request])[0] == model.vq.encode(image[None])[0]).float().mean()
    # at strength 1 only chance agreement is left, at 0.5 the schedule keeps two fifths
    assert (kept < 0.1) == (strength == 1.0)


@pytest.mark.parametrize("sides", [(1, 1), (1, 5), (7, 3)])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_any_multiple_of_the_unit_can_be_sampled_and_decoded(
    model: Meissonic, unit: int, sides: tuple[int, int], schedule: Any
) -> None:
    width, height = sides[0] * unit, sides[1] * unit
    config = dataclasses.replace(FAST, masking_schedule=schedule)
    tokens = tokens_of(model, [SampleRequest(prompt="p", seed=0, width=width, height=height, config=config)])
    assert (tokens[0] < model.transformer.config.codebook_size).all()
    assert Sampler(model).decode(tokens[0][None], batch_size=2).shape == (1, 3, height, width)


def test_pixels_do_not_depend_on_the_batch(model: Meissonic, unit: int) -> None:
    tokens = torch.stack(tokens_of(model, requests(unit, 4)))
    together = Sampler(model).decode(tokens, batch_size=4)
    for index in range(4):
        assert torch.equal(Sampler(model).decode(tokens[index : index + 1], batch_size=4)[0], together[index])


def test_one_step_is_enough(model: Meissonic, unit: int) -> None:
    config = SamplerConfig(num_steps=1, guidance_scale=1.0)
    assert tokens_of(model, [SampleRequest(prompt="p", seed=0, width=unit, height=unit, config=config)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 0}, "num_steps is 0"),
        ({"guidance_scale": math.nan}, "guidance_scale is nan"),
        ({"guidance_scale": -1.0}, "guidance_scale is -1"),
        ({"temperature": (2.0, math.inf)}, "temperature is"),
        ({"softmax_temperature": 0.0}, "softmax_temperature is 0"),
        ({"masking_schedule": "square"}, "masking_schedule is 'square'"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplerConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width is 0; it must be a positive multiple"),
        ({"height": 33}, "height is 33; it must be a positive multiple"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is"),
        ({"score": math.nan}, "score is nan"),
        ({"mask": torch.ones(1, 1, dtype=torch.bool)}, "mask without an image"),
        ({"image": torch.zeros(3, 1, 1)}, r"image is \(3, 1, 1\)"),
    ],
)
def test_bad_requests_are_refused_before_any_compute(
    model: Meissonic, unit: int, changes: dict[str, Any], message: str
) -> None:
    good = SampleRequest(prompt="p", seed=0, width=unit, height=unit, config=FAST)
    with pytest.raises(RequestError, match=message):
        Sampler(model).sample([good, dataclasses.replace(good, **changes)], batch_size=2)


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.5, 0.1, math.nan])
def test_a_strength_without_steps_is_refused(model: Meissonic, unit: int, strength: float) -> None:
    image = torch.zeros(3, unit, unit)
    request = SampleRequest(
        prompt="p", seed=0, width=unit, height=unit, config=FAST, image=image, strength=strength
    )
    with pytest.raises(RequestError, match="strength is"):
        Sampler(model).sample([request], batch_size=1)


def test_empty_batches_are_refused(model: Meissonic, unit: int) -> None:
    with pytest.raises(RequestError, match="no requests"):
        Sampler(model).sample([], batch_size=2)
    with pytest.raises(RequestError, match="batch_size is 0"):
        Sampler(model).sample(requests(unit, 1), batch_size=0)


def test_the_head_at_masked_positions_gives_what_the_full_head_gives(model: Meissonic, unit: int) -> None:
    """Guidance before the last product and fewer positions, against the plain way."""
    from meissonic.noise import PhiloxNoise
    from meissonic.requests import batch_shape

    wanted = requests(unit, 2)
    sampler = Sampler(model)
    batch = sampler.prepare(wanted, batch_shape(model, wanted[0]), PhiloxNoise([0, 1], "cpu"))
    positions = torch.tensor([[1, 4, 6], [0, 2, 7]])
    tokens = batch.tokens_BHW.clone()
    tokens[:, 0, 0] = 3
    logits = sampler.logits(batch, tokens, 1, positions)
    timestep = torch.tensor([FAST.num_steps - 2])
    u, c = (
        model.transformer(tokens, *sampler.encode_text(texts), batch.conditions.micro_conds_B5, timestep)
        for texts in ([r.negative_prompt for r in wanted], [r.prompt for r in wanted])
    )
    full = (u + batch.guidance_scale_B[:, None, None, None] * (c - u)).flatten(2).mT
    expected = full.gather(1, positions[..., None].expand(-1, -1, full.shape[-1]))
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_modules_build_on_the_meta_device() -> None:
    from meissonic.config import TransformerConfig

    with torch.device("meta"):
        assert Transformer(TransformerConfig()).embed.embeddings.weight.is_meta
        assert TextEncoder(TextConfig()).tower.positional_embedding.is_meta

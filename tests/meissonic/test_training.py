"""What is trained: the loss at masked positions, whatever parts a batch is cut into."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from meissonic import Meissonic
from meissonic.objective import (
    IGNORED,
    TIMESTEP_SCALE,
    ObjectiveConfig,
    mask_tokens,
    num_masked,
)
from meissonic.training import MaskedImageModel, TrainingBatch, new_transformer
from meissonic.training_noise import Stream, TrainingNoise

SEED, INDEX, GRID = 5, 11, 6
Make = Callable[..., MaskedImageModel]


@pytest.fixture
def make(model: Meissonic) -> Make:
    """A model to train, of copies of the tiny model's parts."""

    def made(config: ObjectiveConfig | None = None, train_text: bool = False) -> MaskedImageModel:
        return MaskedImageModel(
            copy.deepcopy(model.transformer),
            copy.deepcopy(model.text_encoder),
            empty_ids_L=model.tokenizer([""])[0],
            mask_token_id=model.scheduler.mask_token_id,
            config=config or ObjectiveConfig(drop_rate=0.0),
            seed=SEED,
            train_text=train_text,
        )

    return made


@pytest.fixture
def batch(model: Meissonic) -> TrainingBatch:
    generator = torch.Generator().manual_seed(0)
    codes = model.transformer.config.codebook_size
    ids = model.tokenizer(["a red square", "two foxes", "a glass of water", "dusk"])
    return TrainingBatch(
        index=INDEX,
        slots_B=torch.arange(4),
        tokens_BHW=torch.randint(codes, (4, GRID, GRID), generator=generator),
        micro_conds_B5=torch.tensor([512.0, 512.0, 0.0, 0.0, 6.0]).repeat(4, 1),
        input_ids_BL=ids,
        pooled_ids_BL=ids,
    )


def part(batch: TrainingBatch, rows: slice) -> TrainingBatch:
    ids = batch.input_ids_BL[rows]
    return dataclasses.replace(
        batch,
        slots_B=batch.slots_B[rows],
        tokens_BHW=batch.tokens_BHW[rows],
        micro_conds_B5=batch.micro_conds_B5[rows],
        input_ids_BL=ids,
        pooled_ids_BL=ids,
    )


def masked(model: MaskedImageModel, batch: TrainingBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, labels and rates of a batch."""
    noise = TrainingNoise(SEED, batch.index, batch.slots_B)
    rate = model.config.rates(noise)
    return (*mask_tokens(batch.tokens_BHW, rate, noise.order(GRID**2), model.mask_token_id), rate)


def gradients(model: MaskedImageModel) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_all_logits(make: Make, batch: TrainingBatch, label_smoothing: float) -> None:
    model = make(ObjectiveConfig(drop_rate=0.0, label_smoothing=label_smoothing))
    count = num_masked(model.config, SEED, INDEX, 4, GRID**2)
    loss = model(batch)[0] / count
    loss.backward()

    plain = make(model.config)
    inputs, labels, rate = masked(plain, batch)
    hidden, pooled = plain.text_encoder(batch.input_ids_BL)
    logits = plain.transformer(inputs, hidden, pooled, batch.micro_conds_B5, rate * TIMESTEP_SCALE)
    expected = F.cross_entropy(logits, labels, ignore_index=IGNORED, label_smoothing=label_smoothing)
    expected.backward()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    assert gradients(model).keys() == gradients(plain).keys()
    for name, gradient in gradients(plain).items():
        torch.testing.assert_close(gradients(model)[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_a_batch_is_the_sum_of_its_parts(make: Make, batch: TrainingBatch) -> None:
    model = make(ObjectiveConfig(drop_rate=0.5))
    whole = model(batch)
    parts = model(part(batch, slice(0, 2))), model(part(batch, slice(2, 4)))
    for of_whole, of_first, of_second in zip(whole, *parts, strict=True):
        torch.testing.assert_close(of_whole, of_first + of_second, atol=1e-5, rtol=1e-5)


def test_the_loss_is_told_by_masking_rate(make: Make, batch: TrainingBatch) -> None:
    model = make()
    loss, by_rate = model(batch)
    inputs, _, rate_B = masked(model, batch)
    count_B = (inputs == model.mask_token_id).sum((1, 2))
    expected = [count_B[(rate_B * 5).long() == bin].sum() for bin in range(5)]  # no rate here is 1
    assert by_rate[:, 1].tolist() == torch.stack(expected).tolist()
    torch.testing.assert_close(by_rate[:, 0].sum(), loss.detach(), atol=1e-4, rtol=1e-5)
    alone = [model(part(batch, slice(row, row + 1)))[1] for row in range(4)]
    torch.testing.assert_close(by_rate, torch.stack(alone).sum(0), atol=1e-4, rtol=1e-5)
    assert all((one[:, 1] > 0).sum() == 1 for one in alone)
    assert not by_rate.requires_grad


@pytest.mark.parametrize("index", range(4))
def test_the_denominator_is_the_number_of_masked_positions(
    make: Make, batch: TrainingBatch, index: int
) -> None:
    model = make(ObjectiveConfig(min_masking_rate=0.1, masking_rate_power=2.0))
    inputs, _, _ = masked(model, dataclasses.replace(batch, index=index))
    count = num_masked(model.config, SEED, index, 4, GRID**2)
    assert count == int((inputs == model.mask_token_id).sum())


def test_dropped_conditions_are_the_empty_prompt_s_hidden_and_pooled(
    make: Make, batch: TrainingBatch, model: Meissonic
) -> None:
    empty = model.tokenizer([""]).repeat(4, 1)
    without_text = dataclasses.replace(batch, input_ids_BL=empty, pooled_ids_BL=empty)
    dropped = make(ObjectiveConfig(drop_rate=1.0))(batch)[0]
    torch.testing.assert_close(dropped, make()(without_text)[0], atol=1e-5, rtol=1e-5)
    assert not torch.isclose(dropped, make()(batch)[0], rtol=1e-4)


def test_pooled_output_is_of_its_own_caption(make: Make, batch: TrainingBatch) -> None:
    same = make()(dataclasses.replace(batch, pooled_ids_BL=batch.input_ids_BL.clone()))[0]
    other = make()(dataclasses.replace(batch, pooled_ids_BL=batch.input_ids_BL.flip(0)))[0]
    torch.testing.assert_close(same, make()(batch)[0], atol=1e-5, rtol=1e-5)
    assert not torch.isclose(other, same, rtol=1e-5)


@pytest.mark.parametrize("train_text", [False, True])
def test_the_text_tower_learns_only_if_told(make: Make, batch: TrainingBatch, train_text: bool) -> None:
    model = make(ObjectiveConfig(drop_rate=0.5), train_text)
    model(batch)[0].backward()
    assert any(name.startswith("text_encoder.") for name in gradients(model)) is train_text


def test_validation_at_rate_one_masks_all(make: Make, batch: TrainingBatch) -> None:
    sums, counts = make().losses(batch, torch.ones(4))
    assert counts.tolist() == [GRID**2] * 4
    assert (sums > 0).all()


def test_validation_has_the_training_loss_at_the_same_rates(make: Make, batch: TrainingBatch) -> None:
    model = make()
    rate = model.config.rates(TrainingNoise(SEED, INDEX, batch.slots_B))
    sums, counts = model.losses(batch, rate)
    torch.testing.assert_close(sums.sum(), model(batch)[0], atol=1e-4, rtol=1e-5)
    assert int(counts.sum()) == num_masked(model.config, SEED, INDEX, 4, GRID**2)


def test_the_sampler_s_timesteps_are_the_steps_that_remain() -> None:
    config = ObjectiveConfig(sampler_timesteps=1.0, sampler_steps=(8, 8))
    noise = TrainingNoise(SEED, INDEX, torch.arange(3))
    rates = torch.cos(torch.tensor([0.0, 4 / 8, 1.0]) * torch.pi / 2)
    assert config.timesteps(rates, noise).tolist() == [7.0, 3.0, 0.0]


def test_a_share_of_samples_has_the_sampler_s_timestep() -> None:
    config = ObjectiveConfig(sampler_timesteps=0.25)
    noise = TrainingNoise(SEED, INDEX, torch.arange(4000))
    rates = config.rates(noise)
    told = config.timesteps(rates, noise) != rates * TIMESTEP_SCALE
    assert torch.equal(told, noise.uniform(Stream.TIMESTEP) < 0.25)


def test_new_weights_depend_on_the_seed_alone(model: Meissonic) -> None:
    state = torch.random.get_rng_state()
    first, again, other = (new_transformer(model.transformer.config, seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    for name, weight in first.named_parameters():
        assert torch.equal(weight, again.get_parameter(name))
    assert not torch.equal(first.project_to_hidden.weight, other.project_to_hidden.weight)

"""The masked-image-modelling objective: masking rates, masks, conditioning dropout and the loss.

Shapes: B batch, N positions, M masked positions, H x W grid, V codes, K bins of masking rates. Source:
arXiv 2410.08261 and MaskGIT (Chang et al., 2022).
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meissonic.training_noise import Stream, TrainingNoise

IGNORED = -100
"""Label of a position that has no part in the loss."""
TIMESTEP_SCALE = 1000
RATE_BINS = ("0-0.2", "0.2-0.4", "0.4-0.6", "0.6-0.8", "0.8-1")
"""Masking rates that are told together, all of one width."""
NO_DECAY = ("bias", "layer_norm.weight", "mlm_ln.weight", "embeddings.weight")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """The objective. Defaults: the published one, with conditioning dropout as the paper means it."""

    min_masking_rate: float = 0.0
    masking_rate_power: float = 1.0
    """The rate is cos(u^power pi/2): above 1 high rates come more often, where the caption decides."""
    drop_rate: float = 0.1
    """How often a sample has the empty prompt instead of its own, for guidance to steer away from."""
    label_smoothing: float = 0.0
    sampler_timesteps: float = 0.0
    """Share of samples that see the sampler's timestep, the steps that remain, instead of 1000 x rate."""
    sampler_steps: tuple[int, int] = (6, 24)
    """Fewest and most steps of the schedules of those."""

    def rates(self, noise: TrainingNoise) -> Tensor:
        """Masking rates, float32 [B]."""
        # devices differ in the last bit of a float32 cosine, which may mask another number of positions
        uniform_B = noise.uniform(Stream.RATE).double() ** self.masking_rate_power
        return masking_rate(uniform_B, self.min_masking_rate).float()

    def timesteps(self, rate_B: Tensor, noise: TrainingNoise) -> Tensor:
        """What the model is told of the masking rates, float32 [B]."""
        scaled_B = rate_B * TIMESTEP_SCALE
        if self.sampler_timesteps == 0:
            return scaled_B
        fewest, most = self.sampler_steps
        steps_B = (fewest + noise.uniform(Stream.STEPS) * (most + 1 - fewest)).floor()
        done_B = rate_B.double().clip(0, 1).acos() * 2 / math.pi
        remaining_B = (steps_B * (1 - done_B) - 1).round().clip(min=0).float()
        return torch.where(noise.uniform(Stream.TIMESTEP) < self.sampler_timesteps, remaining_B, scaled_B)


def masking_rate(uniform_B: Tensor, min_rate: float = 0.0) -> Tensor:
    """Cosine masking rates [B] of U(0, 1) draws, in their dtype."""
    return torch.cos(uniform_B * math.pi * 0.5).clip(min=min_rate)


def masked_counts(rate_B: Tensor, num_positions: int) -> Tensor:
    """How many positions each rate masks: round(N x rate), at least one, [B]."""
    return (num_positions * rate_B).round().clip(min=1)


def num_masked(config: ObjectiveConfig, seed: int, index: int, batch_size: int, num_positions: int) -> int:
    """Masked positions of a whole batch: what its summed loss is divided by.

    Args:
        config: the objective.
        seed: of the training.
        index: of the batch in the order of the data.
        batch_size: samples, over all workers.
        num_positions: of each of their grids.
    """
    noise = TrainingNoise(seed, index, torch.arange(batch_size))
    return int(masked_counts(config.rates(noise), num_positions).sum())


def mask_tokens(
    tokens_BHW: Tensor, rate_B: Tensor, order_BN: Tensor, mask_token_id: int
) -> tuple[Tensor, Tensor]:
    """Mask round(N x rate) positions of each sample, at least one.

    Args:
        tokens_BHW: codes.
        rate_B: masking rates.
        order_BN: a random permutation of the positions for each sample; the least numbers are masked.
        mask_token_id: what replaces them.

    Returns:
        Inputs [B, H, W] and labels [B, H, W], `IGNORED` where nothing was masked.
    """
    mask = (order_BN < masked_counts(rate_B, order_BN.shape[1])[:, None]).view_as(tokens_BHW)
    return tokens_BHW.masked_fill(mask, mask_token_id), tokens_BHW.masked_fill(~mask, IGNORED)


def drop_conditions(
    text_BLC: Tensor, pooled_BP: Tensor, empty_LC: Tensor, empty_P: Tensor, drop_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Give the samples of `drop` (bool [B]) the empty prompt's encoding, for guidance to steer away from."""
    return (
        torch.where(drop_B[:, None, None], empty_LC, text_BLC),
        torch.where(drop_B[:, None], empty_P, pooled_BP),
    )


def masked_cross_entropy(logits_MV: Tensor, labels_M: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each masked position, in float32, [M]; the loss is their mean over a whole batch."""
    return F.cross_entropy(logits_MV.float(), labels_M, reduction="none", label_smoothing=label_smoothing)


def losses_by_rate(loss_M: Tensor, masked_BN: Tensor, rate_B: Tensor) -> Tensor:
    """What a loss consists of, for each of `RATE_BINS`: the sum over its masked positions, and their number.

    Sums are made in a fixed order, and nothing waits for the device.

    Args:
        loss_M: of each masked position, sample after sample.
        masked_BN: which those are.
        rate_B: masking rates of the samples.

    Returns:
        float32 [K, 2].
    """
    loss_BN = torch.zeros(masked_BN.shape, device=loss_M.device).masked_scatter(masked_BN, loss_M)
    sums_B2 = torch.stack([loss_BN.sum(1), masked_BN.sum(1)], 1)
    bin_B = (rate_B * len(RATE_BINS)).long().clip(max=len(RATE_BINS) - 1)
    is_in_KB = torch.arange(len(RATE_BINS), device=rate_B.device)[:, None] == bin_B
    return torch.where(is_in_KB[:, :, None], sums_B2, 0.0).sum(1)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Optimizer groups of what is trained: all but biases, some norms and the token embedding decay."""
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        (others if any(part in name for part in NO_DECAY) else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]

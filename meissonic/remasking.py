"""One batch of the sampler, and which of its positions are masked again after each step.

Shapes: B batch, H x W grid, N positions, S steps.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from meissonic.inference import Conditions
from meissonic.masking import halton_ranks, masked_counts, masked_fraction, num_to_mask, remask
from meissonic.requests import BatchShape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Tensors of one batch of samples, all of the same shape."""

    shape: BatchShape
    tokens_BHW: Tensor
    """Start tokens, the mask token where unknown."""
    conditions: Conditions
    negative: Conditions | None
    """Those of the unconditional half, where there is one."""
    negative_prompts: tuple[str, ...]
    scores: tuple[float, ...]
    guidance_scale_B: Tensor
    temperatures_BS: Tensor
    softmax_temperature_B: Tensor
    confidence_threshold_B: Tensor
    starting_fraction_B: Tensor
    """Share of positions that the mask schedule counts from: 1, or the mask's area in inpainting."""


class Remasking:
    """Which positions are masked again after each step, and how far the samples are."""

    def __init__(self, batch: Batch) -> None:
        shape, device = batch.shape, batch.tokens_BHW.device
        self._batch, self._num_positions = batch, batch.tokens_BHW[0].numel()
        steps = range(shape.num_steps)
        fractions = [masked_fraction(shape.masking_schedule, done, shape.num_steps) for done in steps]
        self._fractions_S = torch.stack(fractions).to(device)
        self._order_N: Tensor | None = None
        if shape.unmasking == "halton":
            self._order_N = -halton_ranks(*batch.tokens_BHW.shape[1:]).to(device).float()
        self._place_B: Tensor | None = None
        """Each sample's step of the schedule, where samples may be ahead of it."""
        if shape.unmasking == "threshold":
            self._place_B = torch.zeros(len(batch.scores), dtype=torch.int64, device=device)
            counts = masked_counts(shape.masking_schedule, self._num_positions, shape.num_steps)
            self._counts_S = torch.tensor([*counts, 0], device=device)

    def timestep_B(self, step: int) -> Tensor:
        """The model's timestep, [1] or each sample's own."""
        if self._place_B is not None:
            return self._batch.shape.num_steps - 1 - self._place_B
        return timestep_at(self._batch.shape.num_steps, step, self._fractions_S.device)

    def again(self, step: int, unknown_BN: Tensor, log_probs_BN: Tensor, uniform_BN: Tensor) -> Tensor:
        """The positions to mask again after a step that is not the last, bool [B, N]."""
        batch, num_unknown_B = self._batch, unknown_BN.sum(1)
        if self._place_B is not None:
            temperature_B = batch.temperatures_BS.gather(1, self._place_B[:, None])[:, 0]
            wanted_B = self._counts_S[self._place_B + 1]
            again = remask(log_probs_BN, unknown_BN, uniform_BN, wanted_B, temperature_B)
            again &= log_probs_BN < batch.confidence_threshold_B[:, None].log()
            # the last step of the schedule that begins with as many
            self._place_B = (self._counts_S[:-1] >= again.sum(1, keepdim=True)).sum(1) - 1
            return again
        fraction_B = batch.starting_fraction_B * self._fractions_S[step + 1]
        wanted_B = num_to_mask(fraction_B, self._num_positions, num_unknown_B)
        temperature_B = batch.temperatures_BS[:, step]
        if self._order_N is not None:
            log_probs_BN, temperature_B = (
                self._order_N.expand_as(log_probs_BN),
                torch.zeros_like(temperature_B),
            )
        return remask(log_probs_BN, unknown_BN, uniform_BN, wanted_B, temperature_B)


def timestep_at(num_steps: int, step: int, device: torch.device) -> Tensor:
    """The model's timestep [1]: the remaining step's number, as the released weights are sampled with."""
    return torch.full((1,), num_steps - 1 - step, device=device)

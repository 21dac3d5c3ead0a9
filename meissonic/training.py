"""What is trained: tokens of images and ids of captions in, the objective's loss out.

Shapes: B samples of a micro-batch, H x W token grid, N positions, M masked positions of all samples, L text
positions, D width, V codes, K bins of masking rates.
"""

from __future__ import annotations

import dataclasses
from typing import Self

import torch
from torch import Tensor, nn

from meissonic.config import TransformerConfig
from meissonic.objective import (
    IGNORED,
    ObjectiveConfig,
    drop_conditions,
    losses_by_rate,
    mask_tokens,
    masked_cross_entropy,
)
from meissonic.text import TextEncoder
from meissonic.training_noise import Stream, TrainingNoise
from meissonic.transformer import Transformer

LOSS_CHUNK = 16_384
"""Masked positions whose logits are worked on at once, which bounds what is needed for a moment. What the
backward pass needs stays for all: 32 KiB a masked position, with 8,192 codes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """Samples of one grid size, a worker's part of a batch or less."""

    index: int
    """Of the batch in the order of the data."""
    slots_B: Tensor
    """Places of the samples in the whole batch, int64."""
    tokens_BHW: Tensor
    """int64 codes."""
    micro_conds_B5: Tensor
    input_ids_BL: Tensor
    """Of the captions whose hidden states the model sees."""
    pooled_ids_BL: Tensor
    """Of the captions whose pooled output it sees; the same object where they are the same."""

    def to(self, device: torch.device) -> Self:
        """The batch on a device; from pinned memory the copy does not wait."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("slots_B", "tokens_BHW", "micro_conds_B5", "input_ids_BL")
        }
        same = self.pooled_ids_BL is self.input_ids_BL
        pooled = moved["input_ids_BL"] if same else self.pooled_ids_BL.to(device, non_blocking=True)
        return dataclasses.replace(self, **moved, pooled_ids_BL=pooled)


class MaskedImageModel(nn.Module):
    """A transformer and its text tower under the masked-image-modelling objective."""

    empty_ids_1L: Tensor

    def __init__(
        self,
        transformer: Transformer,
        text_encoder: TextEncoder,
        *,
        empty_ids_L: Tensor,
        mask_token_id: int,
        config: ObjectiveConfig,
        seed: int,
        train_text: bool,
    ) -> None:
        """The parts, whose parameters become those that are trained.

        Args:
            transformer: is trained.
            text_encoder: is trained where `train_text` says so, else frozen.
            empty_ids_L: of the empty prompt.
            mask_token_id: stands for what is masked.
            config: the objective.
            seed: of all draws.
            train_text: whether the text tower learns too.
        """
        super().__init__()
        self.transformer = transformer.train().requires_grad_(True)
        self.text_encoder = text_encoder.train(train_text).requires_grad_(train_text)
        self.mask_token_id, self.config, self.seed, self.train_text = mask_token_id, config, seed, train_text
        self.register_buffer("empty_ids_1L", empty_ids_L[None], persistent=False)
        self._frozen_empty: tuple[Tensor, Tensor] | None = None

    def forward(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """The objective on these samples.

        Returns:
            Sum of the cross-entropies over the masked positions, a float32 scalar; and, without gradients,
            what it consists of by masking rate, as `losses_by_rate` gives it, [K, 2].
        """
        noise = TrainingNoise(self.seed, batch.index, batch.slots_B)
        text, pooled = self._conditions(batch)
        drop_B = noise.uniform(Stream.DROP) < self.config.drop_rate
        empty_text, empty_pooled = self._empty()
        text, pooled = drop_conditions(text, pooled, empty_text[0], empty_pooled[0], drop_B)
        rate_B = self.config.rates(noise)
        hidden_BND, labels_BN = self._hidden(batch, text, pooled, rate_B, noise)
        masked_BN = labels_BN != IGNORED
        hidden_MD, labels_M = hidden_BND[masked_BN], labels_BN[masked_BN]
        summed = torch.zeros((), device=hidden_MD.device)
        parts = list[Tensor]()
        for hidden, labels in zip(
            torch.split(hidden_MD, LOSS_CHUNK), torch.split(labels_M, LOSS_CHUNK), strict=True
        ):
            loss = self._cross_entropy(hidden, labels, self.config.label_smoothing)
            summed = summed + loss.sum()
            parts.append(loss.detach())
        return summed, losses_by_rate(torch.cat(parts), masked_BN, rate_B)

    @torch.no_grad()
    def losses(self, batch: TrainingBatch, rate_B: Tensor) -> tuple[Tensor, Tensor]:
        """Validation: cross-entropies at given masking rates, nothing dropped or smoothed.

        Returns:
            Sum over the masked positions of each sample, float32 [B], and their number [B].
        """
        noise = TrainingNoise(self.seed, batch.index, batch.slots_B)
        text, pooled = self._conditions(batch)
        hidden_BND, labels_BN = self._hidden(batch, text, pooled, rate_B, noise)
        masked_BN = labels_BN != IGNORED
        loss_BN = torch.zeros(labels_BN.shape, device=labels_BN.device)
        loss_BN[masked_BN] = self._cross_entropy(hidden_BND[masked_BN], labels_BN[masked_BN], 0.0)
        return loss_BN.sum(1), masked_BN.sum(1)

    def _hidden(
        self, batch: TrainingBatch, text: Tensor, pooled: Tensor, rate_B: Tensor, noise: TrainingNoise
    ) -> tuple[Tensor, Tensor]:
        """Hidden states before the head [B, N, D], and labels [B, N]."""
        order_BN = noise.order(batch.tokens_BHW[0].numel())
        inputs, labels = mask_tokens(batch.tokens_BHW, rate_B, order_BN, self.mask_token_id)
        timestep_B = self.config.timesteps(rate_B, noise)
        hidden = self.transformer.hidden(inputs, text, pooled, batch.micro_conds_B5, timestep_B)
        height, width = batch.tokens_BHW.shape[1:]  # an odd grid comes back one larger with compression
        return hidden[:, :height, :width].flatten(1, 2), labels.flatten(1)

    def _cross_entropy(self, hidden_MD: Tensor, labels_M: Tensor, label_smoothing: float) -> Tensor:
        """Of each masked position, float32 [M]."""
        head = self.transformer.mlm_layer
        return masked_cross_entropy(head.logits(head.features(hidden_MD)), labels_M, label_smoothing)

    def _conditions(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Hidden states [B, L, C] and pooled outputs [B, P] of the captions."""
        with torch.set_grad_enabled(self.train_text and torch.is_grad_enabled()):
            hidden, pooled = self.text_encoder(batch.input_ids_BL)
            if batch.pooled_ids_BL is not batch.input_ids_BL:
                pooled = self.text_encoder(batch.pooled_ids_BL)[1]
        return hidden, pooled

    def _empty(self) -> tuple[Tensor, Tensor]:
        """The empty prompt's conditions; a frozen tower encodes it once."""
        if self.train_text:
            return self.text_encoder(self.empty_ids_1L)
        if self._frozen_empty is None:
            with torch.no_grad():
                self._frozen_empty = self.text_encoder(self.empty_ids_1L)
        return self._frozen_empty


def new_transformer(config: TransformerConfig, seed: int) -> Transformer:
    """A transformer to be trained from nothing, its weights those that PyTorch's modules begin with."""
    with torch.random.fork_rng(devices=[]):  # module initialisation has no generator argument
        torch.manual_seed(seed)
        return Transformer(config)

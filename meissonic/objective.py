"""The masked-image-modelling objective: masking rates, masks, conditioning dropout and the loss.

Shapes: B batch, N positions, H x W grid, V codes. Source: arXiv 2410.08261 and MaskGIT (Chang et al., 2022).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORED = -100
"""Label of a position that has no part in the loss."""
TIMESTEP_SCALE = 1000
NO_DECAY = ("bias", "layer_norm.weight", "mlm_ln.weight", "embeddings.weight")


def masking_rate(uniform_B: Tensor, min_rate: float = 0.0) -> Tensor:
    """Cosine masking rates [B] of U(0, 1) draws."""
    return torch.cos(uniform_B * math.pi * 0.5).clip(min=min_rate)


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
    num_masked = (order_BN.shape[1] * rate_B).round().clip(min=1)
    mask = (order_BN < num_masked[:, None]).view_as(tokens_BHW)
    return tokens_BHW.masked_fill(mask, mask_token_id), tokens_BHW.masked_fill(~mask, IGNORED)


def drop_conditions(
    text_BLC: Tensor, pooled_BP: Tensor, empty_LC: Tensor, empty_P: Tensor, drop_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Give the samples of `drop` (bool [B]) the empty prompt's encoding, for guidance to steer away from."""
    return (
        torch.where(drop_B[:, None, None], empty_LC, text_BLC),
        torch.where(drop_B[:, None], empty_P, pooled_BP),
    )


def mim_loss(logits_BVHW: Tensor, labels_BHW: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the masked positions, in fp32."""
    return F.cross_entropy(
        logits_BVHW.float(), labels_BHW, ignore_index=IGNORED, label_smoothing=label_smoothing
    )


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Optimizer groups: decay for all but biases, norms of the embedding and head, and the embedding."""
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        (others if any(part in name for part in NO_DECAY) else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def random_order(batch: int, num_positions: int, generator: torch.Generator) -> Tensor:
    """A permutation for each sample, int64 [B, N] on the generator's device."""
    return torch.rand(batch, num_positions, generator=generator, device=generator.device).argsort(dim=1)

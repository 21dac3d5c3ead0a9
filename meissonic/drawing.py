"""Draw a code for each position and tell its log-probability, in one pass over the logits.

Shapes: B batch, M positions, V codes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Draw = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def draw(logits_BMV: Tensor, uniform_BM: Tensor) -> tuple[Tensor, Tensor]:
    """Invert the cumulative distribution: one uniform a position, however many codes.

    Args:
        logits_BMV: float32.
        uniform_BM: U(0, 1).

    Returns:
        int64 codes and float32 log-probabilities, [B, M].
    """
    largest = logits_BMV.amax(-1, keepdim=True)
    # not normalised: the draw and its probability need the sum alone
    cumulative = (logits_BMV - largest).exp_().cumsum_(-1)
    total = cumulative[..., -1:].clone()
    codes = _first_above(cumulative, uniform_BM[..., None] * total)
    log_probs = logits_BMV.gather(-1, codes) - largest - total.log()
    return codes[..., 0], log_probs[..., 0]


def draw_from_softmax(logits_BMV: Tensor, uniform_BM: Tensor) -> tuple[Tensor, Tensor]:
    """As `draw`, with normalised probabilities of all codes in between."""
    probs_BMV = F.softmax(logits_BMV, dim=-1)
    cumulative = probs_BMV.cumsum(-1)
    codes = _first_above(cumulative, uniform_BM[..., None] * cumulative[..., -1:])
    return codes[..., 0], probs_BMV.gather(-1, codes)[..., 0].log()


def _first_above(cumulative_BMV: Tensor, threshold_BM1: Tensor) -> Tensor:
    # right=True: a code of probability zero is never drawn
    codes = torch.searchsorted(cumulative_BMV, threshold_BM1, right=True)
    return codes.clamp_max(cumulative_BMV.shape[-1] - 1)

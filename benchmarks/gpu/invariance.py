"""Whether a sample's tokens are the same, bit by bit, alone, in a batch and at another place of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.scale import Scale, main_model, requests
from meissonic import Sampler, SampleRequest


def measure(scale: Scale, device: str) -> dict[str, Any]:
    """Shares of samples and of tokens that equal those of the whole batch in order.

    The batch size is that of the run throughout, as the sampler promises; another batch size is measured
    too, which may change the last bits.
    """
    sampler = Sampler(main_model(scale, device), compiled=scale.compiles)
    batch_size = min(8, max(scale.batch_sizes))
    wanted = requests(scale, batch_size, scale.invariance_steps)
    together = _tokens(sampler, wanted, batch_size)
    order = list(reversed(range(batch_size)))
    alone = torch.cat([_tokens(sampler, [request], batch_size) for request in wanted])
    return {
        "batch_size": batch_size,
        "num_steps": scale.invariance_steps,
        "again": _equal(_tokens(sampler, wanted, batch_size), together),
        "reversed": _equal(_tokens(sampler, [wanted[i] for i in order], batch_size)[order], together),
        "alone": _equal(alone, together),
        "batch_size_1": _equal(_tokens(sampler, wanted, 1), together),
    }


def _tokens(sampler: Sampler, wanted: list[SampleRequest], batch_size: int) -> Tensor:
    made = dict[int, Tensor]()
    for indices, tokens in sampler.sample(wanted, batch_size=batch_size):
        made.update(zip(indices, tokens.cpu(), strict=True))
    return torch.stack([made[i] for i in range(len(wanted))])


def _equal(tokens: Tensor, expected: Tensor) -> dict[str, float]:
    equal = (tokens == expected).flatten(1)
    return {"samples": equal.all(1).float().mean().item(), "tokens": equal.float().mean().item()}

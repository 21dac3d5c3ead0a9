"""How a worker computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipelines.training.settings import TrainConfig


@contextmanager
def arithmetic(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Products in the run's precision; weights, norms and the loss stay in float32.

    On CPUs attention is written out: the backward pass of the fused one is slow at short lengths.
    """
    mixed = config.precision == "bfloat16"
    with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
        if device.type == "cpu":
            with sdpa_kernel(SDPBackend.MATH):
                yield
        else:
            yield

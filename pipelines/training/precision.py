"""In which precision a worker computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipelines.training.settings import Precision

DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@contextmanager
def computing(precision: Precision, device: torch.device) -> Iterator[None]:
    """Products in this precision; weights, norms and the loss stay in float32.

    On CPUs attention is written out: the backward pass of the fused one is slow at short lengths.
    """
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        if device.type == "cpu":
            with sdpa_kernel(SDPBackend.MATH):
                yield
        else:
            yield

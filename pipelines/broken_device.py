"""What becomes of a process whose device is broken."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

BROKEN_DEVICE = 70
"""Exit status of a worker whose device reported an error that only a new process can clear."""


@contextmanager
def ends_with_its_device() -> Iterator[None]:
    """End this process where the block meets such an error: a new one finds the row that does it."""
    try:
        yield
    except torch.AcceleratorError:
        traceback.print_exc()
        os._exit(BROKEN_DEVICE)

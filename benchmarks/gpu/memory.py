"""Peak memory of a device, and runs that do not fit it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

GIB = 2**30
GPU_SIZES_GIB = (16, 24, 40, 48, 80, 141)
KEPT_FREE = 0.08
"""Part of a GPU's memory that the CUDA context and fragments take, or other programs."""


def peak_memory(device: str, run: Callable[[], object]) -> dict[str, float | None]:
    """Peaks of allocated and of reserved memory over a run, GiB, the weights included; null on a CPU."""
    if torch.device(device).type != "cuda":
        run()
        return {"peak_allocated_gib": None, "peak_reserved_gib": None}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return {
        "peak_allocated_gib": round(torch.cuda.max_memory_allocated(device) / GIB, 2),
        "peak_reserved_gib": round(torch.cuda.max_memory_reserved(device) / GIB, 2),
    }


def unless_out_of_memory(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The run's result, or that it did not fit: larger batches are tried until they do not."""
    try:
        return {"out_of_memory": False} | run()
    except torch.OutOfMemoryError as error:
        return {"out_of_memory": True, "message": str(error).partition("\n")[0]}


def largest_batches(peaks_gib: Mapping[int, float]) -> dict[str, int]:
    """The largest batch that fits a GPU of each size in GiB, by a straight line through measured peaks.

    Args:
        peaks_gib: Peak of reserved memory by batch size; of fewer than two nothing can be told.
    """
    if len(peaks_gib) < 2:
        return {}
    an_image, fixed = np.polyfit([*peaks_gib], [*peaks_gib.values()], 1)
    rooms = {size: size * (1 - KEPT_FREE) - fixed for size in GPU_SIZES_GIB}
    return {str(size): max(math.floor(room / max(an_image, 1e-3)), 0) for size, room in rooms.items()}

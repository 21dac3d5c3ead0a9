"""Peak memory of a device, and runs that do not fit it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

GIB = 2**30


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

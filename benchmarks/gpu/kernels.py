"""Where a sampling step's time goes, kernel by kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.sampling import sampling
from benchmarks.gpu.scale import Scale, main_model, requests
from benchmarks.timing import significant
from meissonic import Sampler

NUM_STEPS = 2
SHOWN = 25


def measure(scale: Scale, device: str) -> dict[str, Any]:
    """Seconds and calls of the operations that take most, over a short sampling of a batch."""
    wanted = requests(scale, min(8, max(scale.batch_sizes)), NUM_STEPS)
    run = sampling(Sampler(main_model(scale, device), compiled=scale.compiles), wanted)
    run()
    return {
        "batch_size": len(wanted),
        "num_steps": NUM_STEPS,
        **profiled(run, device, SHOWN),
    }


def profiled(run: Callable[[], object], device: str, shown: int) -> dict[str, Any]:
    """Seconds and calls of a run's operations: of all, and of the `shown` that take most."""
    on_gpu = torch.device(device).type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    with profile(activities=activities) as profiler:
        run()
        if on_gpu:
            torch.cuda.synchronize(device)
    attribute = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    operations = sorted(profiler.key_averages(), key=lambda e: getattr(e, attribute), reverse=True)
    if on_gpu:
        # kernels themselves: an operation that launches one has its time again, as has the optimizer's range
        kernels = [e for e in operations if e.device_type.name == "CUDA"]
        operations = [e for e in kernels if not e.key.startswith("Optimizer.")]
    total = sum(getattr(e, attribute) for e in operations)
    return {
        "total_seconds": significant(total / 1e6),
        "num_calls": sum(e.count for e in operations),
        "largest": [
            {
                "name": e.key,
                "calls": e.count,
                "seconds": significant(getattr(e, attribute) / 1e6),
                "share": significant(getattr(e, attribute) / total, 3),
            }
            for e in operations[:shown]
        ],
    }

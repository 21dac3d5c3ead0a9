"""Time arms in turns with a large matrix product of the same dtype and thread count, on CPUs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.matmul import SquareProduct
from benchmarks.record import load_average
from benchmarks.timing import Timings, interleaved, ratios, significant, spread

GUIDANCE_SCALE = 9.0
"""Of what is sampled or guided."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """What one group of measurements runs with."""

    dtype: torch.dtype
    num_threads: int

    @property
    def dtype_name(self) -> str:
        """As in `float32`."""
        return str(self.dtype).removeprefix("torch.")


def measure(
    cell: Cell,
    arms: dict[str, tuple[Callable[[], object], int]],
    *,
    repetitions: int,
    matmul_size: int,
    warmups: int = 1,
) -> tuple[dict[str, Any], Timings]:
    """Time arms, given with their FLOPs, in turns with a matrix product; also the seconds of every run."""
    torch.set_num_threads(cell.num_threads)
    product = SquareProduct(matmul_size, cell.dtype)
    runs: dict[str, Callable[[], object]] = {"matmul": product}
    runs |= {name: run for name, (run, _) in arms.items()}
    product()
    load_before = load_average()
    timings = interleaved(runs, repetitions, warmups=warmups)
    cpu, wall = (sum(map(sum, seconds.values())) for seconds in (timings.cpu, timings.wall))
    matmul_rates = [product.flops / s for s in timings.wall["matmul"]]
    result: dict[str, Any] = {
        "dtype": cell.dtype_name,
        "num_threads": cell.num_threads,
        "load_average": {"before": load_before, "after": load_average()},
        # below 1 the threads waited for a CPU: other processes had it
        "cpu_share": significant(cpu / wall / cell.num_threads, 3),
        "matmul_gflop_per_s": spread([rate / 1e9 for rate in matmul_rates]),
        "arms": {},
    }
    for name, (_, flops) in arms.items():
        rates = [flops / s for s in timings.wall[name]]
        result["arms"][name] = {
            "gflop": significant(flops / 1e9, 5),
            "seconds": spread(timings.wall[name]),
            "cpu_seconds": spread(timings.cpu[name]),
            "fraction_of_matmul_rate": spread(ratios(rates, matmul_rates)),
            "fraction_of_matmul_rate_in_cpu_seconds": spread(
                [
                    flops * m / product.flops / s
                    for s, m in zip(timings.cpu[name], timings.cpu["matmul"], strict=True)
                ]
            ),
        }
    return result, timings


def speedup(timings: Timings, over: str, under: str) -> dict[str, Any]:
    """Quotients of two arms' seconds, round by round."""
    return {
        "speedup": spread(ratios(timings.wall[over], timings.wall[under])),
        "speedup_in_cpu_seconds": spread(ratios(timings.cpu[over], timings.cpu[under])),
    }

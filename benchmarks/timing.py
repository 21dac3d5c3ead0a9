"""Time functions against each other on a machine that others use too: in turns, every repetition kept."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds of each repetition, by arm."""

    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]
    """Of all threads of this process: with one thread, what it would take if it never waited for a CPU."""


def interleaved(
    arms: Mapping[str, Callable[[], object]], repetitions: int, device: str = "cpu", warmups: int = 1
) -> Timings:
    """Run all arms in turns, one repetition of each a round.

    Args:
        arms: what to time.
        repetitions: rounds that count.
        device: waited for at both ends of every run.
        warmups: rounds before them that do not.
    """
    timings = Timings(wall={name: [] for name in arms}, cpu={name: [] for name in arms})
    for repetition in range(warmups + repetitions):
        for name, run in arms.items():
            _wait(device)
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            _wait(device)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if repetition >= warmups:
                timings.wall[name].append(wall)
                timings.cpu[name].append(cpu)
    return timings


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest of repeated measurements, and all of them."""
    return {
        "median": significant(statistics.median(values)),
        "min": significant(min(values)),
        "max": significant(max(values)),
        "all": [significant(value) for value in values],
    }


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Quotients of the measurements of the same round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def significant(value: float, digits: int = 4) -> float:
    """A number cut to the digits that a timing can have."""
    return float(f"{value:.{digits}g}")


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)

"""Time functions against each other on a machine that others use too: in turns, every repetition kept."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


def interleaved(
    arms: Mapping[str, Callable[[], object]], repetitions: int, device: str = "cpu", warmups: int = 1
) -> dict[str, list[float]]:
    """Run all arms in turns, A B C A B C …, and return the seconds of each repetition by arm.

    Args:
        arms: what to time.
        repetitions: rounds that count.
        device: waited for at both ends of every run.
        warmups: rounds before them that do not.
    """
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for repetition in range(warmups + repetitions):
        for name, run in arms.items():
            elapsed = timed(run, device)
            if repetition >= warmups:
                seconds[name].append(elapsed)
    return seconds


def timed(run: Callable[[], object], device: str = "cpu") -> float:
    """Seconds that one run takes, the device's queue emptied before and after."""
    _wait(device)
    began = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - began


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

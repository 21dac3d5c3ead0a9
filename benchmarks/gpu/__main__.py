"""Measure one GPU: `python -m benchmarks.gpu --out DIR`, under nine minutes on an H100.

One JSON file a measurement. One that fails is written down with its error, the others go on, and the exit
code is 1. `--device cpu --small` runs the same with toy sizes, to test the suite itself.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import (
    decoding,
    invariance,
    job,
    kernels,
    matmul_rate,
    numerics,
    sampling,
    scoring,
    shapes,
    tokenizing,
    training,
)
from benchmarks.gpu.scale import FULL, SMALL, Scale
from benchmarks.record import load_average, write_result

MEASUREMENTS: dict[str, Callable[[Scale, str], dict[str, Any]]] = {
    "matmul_rate": matmul_rate.measure,
    "numerics": numerics.measure,
    "sampling": sampling.measure,
    "decoding": decoding.measure,
    "invariance": invariance.measure,
    "kernels": kernels.measure,
    "scoring": scoring.measure,
    "tokenizing": tokenizing.measure,
    "training": training.measure,
    "job": job.measure,
    "shapes": shapes.measure,
}
"""In order: what was made for one and takes memory is dropped before the jobs; the last takes six minutes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurements and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu …")
    parser.add_argument("--small", action="store_true", help="toy sizes, whose numbers mean nothing")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument(
        "--limit-s", type=float, default=510.0, help="measurements that would begin later are left out"
    )
    options = parser.parse_args(arguments)
    scale = SMALL if options.small else FULL
    began, failed = time.monotonic(), []
    for name in options.only:
        measurement_began, load_before = time.monotonic(), load_average()
        try:
            if measurement_began - began > options.limit_s:
                raise TimeoutError(f"not begun: {options.limit_s:g} s had passed (--limit-s)")
            measures = {"ok": True, "result": MEASUREMENTS[name](scale, options.device)}
        except Exception as error:
            failed.append(name)
            measures = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            measures["traceback"] = traceback.format_exc()
        elapsed = round(time.monotonic() - measurement_began, 1)
        settings = {
            "device": options.device,
            "device_name": _device_name(options.device),
            "small": options.small,
            "elapsed_s": elapsed,
            "load_average": {"before": load_before, "after": load_average()},
        }
        path = options.out / f"{name}.json"
        write_result(f"gpu_{name}", settings=settings, measures=measures, path=path)
        print(f"{name:<12} {'ok' if measures['ok'] else 'FAILED'} {elapsed:>7.1f} s  {path}", flush=True)
        if not measures["ok"]:
            print(f"  {measures['error']}", flush=True)
    return 1 if failed else 0


def _device_name(device: str) -> str | None:
    on_gpu = torch.device(device).type == "cuda" and torch.cuda.is_available()
    return torch.cuda.get_device_name(device) if on_gpu else None


if __name__ == "__main__":
    sys.exit(main())

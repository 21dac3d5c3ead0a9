"""Run one measurement in a process of its own, so that its peak of memory is its own.

`python -m benchmarks.engine.process PACKAGE.MODULE.FUNCTION JSON` calls a function of these benchmarks and
prints what it returns. Nothing here may import torch: what imports take is part of every peak.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Steps:
    """Seconds of the steps of a measurement, by the clock and of this process' CPU time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time the block as the step of this name."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = round(time.perf_counter() - wall, 3)
        self.cpu_seconds[name] = round(time.process_time() - cpu, 3)

    def to_json(self) -> dict[str, Any]:
        """Both by step."""
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}


def peak_mib() -> float:
    """The most memory that this process has had at once.

    VmHWM of /proc, because `ru_maxrss` of a new program begins with what its parent had.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return round(int(peak) / 1024, 1)


def measured(function: str, **settings: Any) -> dict[str, Any]:
    """What PACKAGE.MODULE.FUNCTION returns for these settings, and the memory that it took."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"RAY_AUTH_MODE": "disabled"}
    command = [
        sys.executable,
        "-m",
        "benchmarks.engine.process",
        function,
        json.dumps(settings),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure, and print the result as the last line."""
    module, _, function = sys.argv[1].rpartition(".")
    run = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    imports = peak_mib()
    result = run(**json.loads(sys.argv[2]))
    peak = peak_mib()
    memory = {"imports": imports, "peak": peak, "added": round(peak - imports, 1)}
    print(json.dumps(result | {"memory_mib": memory}))


if __name__ == "__main__":
    main()

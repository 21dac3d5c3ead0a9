"""Write a benchmark's result: what was measured, on what hardware, with which code and settings."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
CODE = ("meissonic", "schemas", "pipelines", "jobs", "examples", "benchmarks", ":!benchmarks/results")
"""What a result may depend on."""


def write_result(
    name: str, *, settings: Mapping[str, Any], measures: Mapping[str, Any], path: Path | None = None
) -> Path:
    """Write a result and return its path: `benchmarks/results/NAME.json` unless another is given."""
    result = {
        "benchmark": name,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit(),
        "uncommitted_changes": uncommitted_changes(),
        "hardware": hardware(),
        "settings": dict(settings),
        "measures": dict(measures),
    }
    path = path or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return path


def commit() -> str | None:
    """Return the commit that the working tree is at; None for a copy without its history."""
    output = _git("rev-parse", "HEAD")
    return None if output is None else output.strip()


def uncommitted_changes() -> bool | None:
    """Return whether tracked code differs from the commit; None for a copy without its history."""
    output = _git("status", "--porcelain", "--untracked-files=no", "--", *CODE)
    return None if output is None else bool(output)


def hardware() -> dict[str, Any]:
    """Return the processors that torch may use."""
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "cpu": _cpu_name(),
        "num_cpus": os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "gpus": names,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def load_average() -> list[float]:
    """Return the processes that wanted a CPU over the last 1, 5 and 15 minutes, this one included."""
    return [round(value, 2) for value in os.getloadavg()]


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(RESULTS.parents[1]), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

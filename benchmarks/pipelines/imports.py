"""What the imports of each kind of process take: `python -X importtime` tells of one module more."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.timing import spread

PROCESSES = {
    "generate: driver": ("jobs.__main__", "pipelines.generate"),
    "generate: worker": ("pipelines.generation_worker",),
    "curate: driver": ("jobs.__main__", "pipelines.curation.passes"),
    "curate: decoder": ("pipelines.curation.decode_worker",),
    "a task that reads prompts": ("pipelines.io_stages", "pipelines.prompts"),
    "a task that commits images": ("pipelines.io_stages", "pipelines.packing"),
    "what Ray Data brings along": ("ray.data",),
}
"""The modules that each kind of process imports of this project, and with them everything else."""
_PROGRAM = """
import importlib, json, sys, time
wall, cpu = time.perf_counter(), time.process_time()
for name in sys.argv[1:]:
    importlib.import_module(name)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
from benchmarks.engine.process import peak_mib
print(json.dumps({"seconds": wall, "cpu_seconds": cpu, "mib": peak_mib(), "torch": "torch" in sys.modules}))
"""


def measure(repetitions: int) -> dict[str, Any]:
    """Import what each kind of process does, in turns, each time in a process of its own."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in PROCESSES}
    for _ in range(repetitions):
        for name, modules in PROCESSES.items():
            command = [sys.executable, "-c", _PROGRAM, *modules]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        name: {
            "seconds": spread([result["seconds"] for result in results]),
            "cpu_seconds": spread([result["cpu_seconds"] for result in results]),
            "mib": max(result["mib"] for result in results),
            "torch": results[0]["torch"],
        }
        for name, results in found.items()
    }

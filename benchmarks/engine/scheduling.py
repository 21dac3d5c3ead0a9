"""Scheduling: how busy Ray Data keeps actors whose work is to sleep, and what a unit costs the driver.

Rows are ids alone, or carry as many bytes as an image, which are read, handed on, written and committed.

An actor is busy while it is inside `Worker.process`. The share is taken from the moment when the last actor
begins its first unit to the moment when the first actor ends its last one: in between each has work to do.
Starting the actors, and the end of the run, when there are fewer units than actors, are told apart.
"""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from benchmarks.engine.process import Steps, peak_mib
from pipelines.config import Resources
from pipelines.ledger import Ledger, RunSpec
from pipelines.plan import InputObject, Unit, plan_units
from pipelines.unit_job import Stage, UnitJob
from pipelines.units import run_units
from pipelines.worker import WorkerResult

UNIT_ROWS = 64


class Sleeper:
    """A worker that sleeps, and notes when.

    Args:
        log: Folder of the notes, a file a worker.
        unit_s: Seconds to sleep for a unit.
    """

    def __init__(self, log: str, unit_s: float) -> None:
        self.notes, self.unit_s = Path(log, str(os.getpid())), unit_s

    def process(self, rows: pa.Table) -> WorkerResult:
        """One result a row."""
        began = time.time()
        time.sleep(self.unit_s)
        with self.notes.open("a") as file:
            print(began, time.time(), file=file)
        return WorkerResult(table=rows.append_column("sample_id", rows["row_id"]))


def read(unit: Unit, row_bytes: int) -> pa.Table:
    """The unit's rows, made up; their bytes cannot be compressed, as those of an image cannot."""
    rows = {"row_id": [f"row-{number}" for number in unit.row_numbers]}
    if not row_bytes:
        return pa.table(rows)
    images = pa.array([os.urandom(row_bytes) for _ in unit.row_numbers], pa.binary())
    return pa.table(rows | {"image": images})


def measure(actors: int, cpus: int, unit_s: float, units: int, row_bytes: int = 0) -> dict[str, Any]:
    """Run units of `unit_s` on so many actors, each with a logical GPU, beside so many logical CPUs."""
    ray.init("local", num_cpus=cpus, num_gpus=actors, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        log.mkdir()
        plan = plan_units(
            [InputObject(path="made-up", fingerprint="f", rows=UNIT_ROWS * units)], UNIT_ROWS, ""
        )
        spec = RunSpec(job="sleep", config={}, row_id="row_id", unique_id="sample_id")
        ledger = Ledger.open(f"{folder}/out", spec, plan)
        job = UnitJob(
            stages=(
                Stage(
                    worker=Sleeper,
                    worker_args={"log": str(log), "unit_s": unit_s},
                    resources=Resources(num_actors=actors, num_gpus=1, num_cpus=0),
                ),
            ),
            read=partial(read, row_bytes=row_bytes),
        )
        steps, before, began = Steps(), peak_mib(), time.time()
        with steps("run_units"):
            run_units(job, ledger)
        notes = [np.loadtxt(path, ndmin=2) for path in sorted(log.iterdir())]
    ray.shutdown()
    return (
        {
            "actors": len(notes),
            "logical_cpus": cpus,
            "unit_s": unit_s,
            "units": units,
            "row_bytes": row_bytes,
            "units_by_actor": sorted(len(note) for note in notes),
            "driver_cpu_ms_per_unit": round(1000 * steps.cpu_seconds["run_units"] / units, 1),
            "driver_mib_added_by_run": round(peak_mib() - before, 1),
        }
        | busy_share(notes, began)
        | steps.to_json()
    )


def busy_share(notes: list[np.ndarray[Any, np.dtype[np.float64]]], began: float) -> dict[str, Any]:
    """See the module; of each actor begin and end of its units, in order, as Unix times in seconds."""
    start = max(note[0, 0] for note in notes)
    stop = min(note[-1, 1] for note in notes)
    end = max(note[-1, 1] for note in notes)
    seconds = [np.diff(np.clip(note, start, stop)).sum() for note in notes]
    gaps = np.concatenate([note[1:, 0] - note[:-1, 1] for note in notes])
    return {
        "busy_share": round(float(sum(seconds)) / ((stop - start) * len(notes)), 4),
        "window_s": round(stop - start, 2),
        "all_started_after_s": round(start - began, 2),
        "last_end_after_window_s": round(end - stop, 2),
        "gap_s": {
            name: round(float(np.quantile(gaps, q)), 4)
            for name, q in (("median", 0.5), ("p95", 0.95), ("max", 1.0))
        },
    }

"""The real `generate` job on GPUs that are not there: how busy would they be?

The worker is the real one: it reads prompts, prepares, scores, encodes and hands on what is then written and
committed. Only its model is not run. A batch takes a device a fixed time from when it is launched, or from
when the batch before it is done, and is waited for as one on a GPU is.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

from benchmarks.engine.scheduling import busy_share
from benchmarks.pipelines.runs import write_prompts
from meissonic import SampleRequest
from pipelines.clock import Clock
from pipelines.config import Resources
from pipelines.generate import generation_units, plan_job
from pipelines.generation_config import GenerateConfig
from pipelines.generation_worker import GenerationWorker
from pipelines.in_flight import InFlight
from pipelines.units import run_units

MODEL = "examples/shapes/model"


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What is simulated.

    Attributes:
        actors: Workers, each with a GPU.
        cpus: Logical CPUs beside them.
        image_s: Seconds that a GPU takes for an image.
        side: Pixels of an image's side.
        batch_size: Images a batch.
        unit_rows: Prompts a unit.
        units: Units a worker.
    """

    actors: int
    cpus: int
    image_s: float
    side: int
    batch_size: int
    unit_rows: int
    units: int


class Arriving(InFlight):
    """Results that are there at a given time."""

    def __init__(self, arrives_at: float, *tensors: Tensor) -> None:
        super().__init__(*tensors)
        self._arrives_at = arrives_at

    def wait(self) -> tuple[Tensor, ...]:
        """The results, once it is time."""
        time.sleep(max(self._arrives_at - time.time(), 0.0))
        return super().wait()


class SimulatedWorker(GenerationWorker):
    """A worker of `generate` whose device only takes time, and notes when it was busy.

    Args:
        log: Folder of the notes, a file a worker.
        image_s: Seconds of the device for an image.
        arguments: Of the worker.
    """

    def __init__(self, log: str, image_s: float, arguments: dict[str, Any]) -> None:
        super().__init__(**arguments)
        self.notes, self.image_s, self.free_at = Path(log, str(os.getpid())), image_s, 0.0
        self.picture = picture(int(arguments["config"].width))

    def _launched(
        self, requests: list[SampleRequest], batch_size: int, clock: Clock
    ) -> Iterator[tuple[list[int], InFlight]]:
        factor = self.model.vq.config.factor
        for start in range(0, len(requests), batch_size):
            indices = list(range(start, min(start + batch_size, len(requests))))
            begins = max(time.time(), self.free_at)
            self.free_at = begins + batch_size * self.image_s
            with self.notes.open("a") as file:
                print(begins, self.free_at, file=file)
            pixels = torch.stack([self.picture] * len(indices))
            tokens = torch.zeros(len(indices), pixels.shape[1] // factor, pixels.shape[2] // factor)
            yield indices, Arriving(self.free_at, tokens.long(), pixels)


def picture(side: int) -> Tensor:
    """An image uint8 [side, side, 3] that PNG compresses about as little as a photograph."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 3, 16, 16)))
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")[0]
    grain = torch.from_numpy(rng.normal(0.0, 3.0, (side, side, 3)))
    return (smooth.permute(1, 2, 0) * 255 + grain).clamp(0, 255).to(torch.uint8)


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Run the job; gives the share of the time that its GPUs would be busy, and what a unit took beside.

    Args:
        settings: Of a `Simulation`.
    """
    simulation = Simulation(**settings)
    ray.init(
        "local",
        num_cpus=simulation.cpus,
        num_gpus=simulation.actors,
        include_dashboard=False,
        log_to_driver=False,
    )
    with tempfile.TemporaryDirectory() as scratch:
        summary, notes, began = _run(simulation, Path(scratch))
    ray.shutdown()
    return {
        "actors": len(notes),
        "images": summary.rows_out,
        "image_bytes": round(summary.bytes_out / summary.rows_out),
        "seconds_a_unit": {name: round(s / summary.units, 3) for name, s in summary.seconds.items()},
    } | busy_share(notes, began)


def _run(simulation: Simulation, scratch: Path) -> tuple[Any, list[Any], float]:
    log = scratch / "log"
    log.mkdir()
    write_prompts(scratch / "prompts.parquet", simulation.actors * simulation.units * simulation.unit_rows)
    config = GenerateConfig(
        prompts=str(scratch / "prompts.parquet"),
        model=MODEL,
        output=str(scratch / "out"),
        unit_rows=simulation.unit_rows,
        batch_size=simulation.batch_size,
        width=simulation.side,
        height=simulation.side,
        resources=Resources(num_actors=simulation.actors, num_gpus=1, num_cpus=0, threads_per_actor=1),
    )
    plan = plan_job(config)
    job = generation_units(plan.config, plan.models, plan.prompts)
    (stage,) = job.stages
    simulated = replace(
        stage,
        worker=SimulatedWorker,
        worker_args={"log": str(log), "image_s": simulation.image_s, "arguments": stage.worker_args},
    )
    ledger, began = plan.open().ledger, time.time()
    summary = run_units(replace(job, stages=(simulated,)), ledger)
    return summary, [np.loadtxt(path, ndmin=2) for path in sorted(log.iterdir())], began

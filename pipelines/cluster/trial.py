"""Some rows through every stage of a job, on every node that may run it, with nothing committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.budget import Node
from pipelines.config import Resources
from pipelines.plan import Unit
from pipelines.unit_job import Stage, UnitJob
from pipelines.worker import worker_class

ROWS = 4
"""One of them may be a row that cannot be processed."""
NO_DEVICE = "no GPU that torch can use"
_WAIT_S = 900.0
"""For a stage's resources, its model and the rows."""
_READ = Resources(num_cpus=0)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a stage did with the rows on a node.

    Attributes:
        stage: Its name.
        host: The node's.
        load_s: Seconds until its worker was built.
        run_s: Seconds for the rows.
        device: What its products ran on; "" for stages that ask for no GPU.
        rows: What came out.
        letters: What was wrong with rows, a line each.
        fault: Why it did not work at all; "" where it did.
    """

    stage: str
    host: str
    load_s: float = 0.0
    run_s: float = 0.0
    device: str = ""
    rows: pa.Table = field(default_factory=lambda: pa.table({}))
    letters: tuple[str, ...] = ()
    fault: str = ""


def try_rows(job: UnitJob, unit: Unit) -> Iterator[Trial]:
    """Take the first rows of a unit through all stages, each with what the one before it made.

    Args:
        job: The job; `num_gpus` of its stages are numbers.
        unit: Its first.
    """
    few = replace(unit, row_stop=min(unit.row_stop, unit.row_start + ROWS))
    steps: list[tuple[str, Resources, Callable[[pa.Table], Trial]]] = [
        ("read", _READ, lambda _: Trial(stage="read", host="", rows=job.read(few)))
    ]
    for stage in job.stages:
        steps.append((stage.name or "worker", stage.resources, _StageTrial(stage)))
    steps.append(("pack", _READ, lambda rows: Trial(stage="pack", host="", rows=_packed(job, few, rows))))
    rows = pa.table({})
    for name, resources, step in steps:
        trials = _on_every_node(name, resources, step, rows)
        if not trials:
            trials = [Trial(stage=name, host="", fault="no node has what its workers ask for; see resources")]
        yield from trials
        made = [trial.rows for trial in trials if not trial.fault and trial.rows.num_rows]
        if not made:
            return
        rows = made[0]


@dataclass(frozen=True)
class _StageTrial:
    """Builds a stage's worker, and gives it the rows."""

    stage: Stage

    def __call__(self, rows: pa.Table) -> Trial:
        found = worker_class(self.stage.worker)
        began = time.monotonic()
        worker = found(**self.stage.worker_args)
        built = time.monotonic()
        result = worker.process(rows)
        return Trial(
            stage=self.stage.name or "worker",
            host="",
            load_s=built - began,
            run_s=time.monotonic() - built,
            device=_device() if self.stage.resources.num_gpus else "",
            rows=result.table,
            letters=tuple(
                f"{letter.stage}: {letter.error_type}: {letter.message}" for letter in result.failed
            ),
        )


def _device() -> str:
    import torch  # only where a stage asks for a GPU

    return torch.cuda.get_device_name() if torch.cuda.is_available() else NO_DEVICE


def _packed(job: UnitJob, unit: Unit, rows: pa.Table) -> pa.Table:
    return pa.table({"bytes": [shard.data for shard in job.pack(unit, rows)]})


def _on_every_node(
    name: str, resources: Resources, step: Callable[[pa.Table], Trial], rows: pa.Table
) -> list[Trial]:
    """The step on each node that has what it needs."""
    threads = resources.threads_per_actor
    known = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node for node in known if node["Alive"] and _fits(node, resources)]
    shared, asked = ray.put(rows), []
    run = ray.remote(max_calls=1, max_retries=0)(_run)  # GPU memory is free again when its process has ended
    for node in nodes:
        task = run.options(
            num_cpus=resources.num_cpus,
            num_gpus=float(resources.num_gpus),
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            runtime_env={} if threads is None else {"env_vars": {"OMP_NUM_THREADS": str(threads)}},
        )
        asked.append((node["NodeManagerHostname"], task.remote(step, shared)))
    end = time.monotonic() + _WAIT_S
    return [_answer(name, host, reference, end) for host, reference in asked]


def _run(step: Callable[[pa.Table], Trial], rows: pa.Table) -> Trial:
    return step(rows)


def _fits(node: dict[str, Any], resources: Resources) -> bool:
    has = node["Resources"]
    asked = {"CPU": resources.num_cpus, "GPU": float(resources.num_gpus)}
    labelled = Node(num_cpus=0, num_gpus=0, labels=node["Labels"]).suits(resources)
    return labelled and all(has.get(what, 0) >= amount for what, amount in asked.items())


def _answer(name: str, host: str, reference: Any, end: float) -> Trial:
    try:
        trial: Trial = ray.get(reference, timeout=max(end - time.monotonic(), 0.1))
        return replace(trial, host=host)
    except GetTimeoutError:
        waited = f"no answer in {_WAIT_S:g} s: another job may hold what it needs"
        return Trial(stage=name, host=host, fault=waited)
    except RayTaskError as error:
        return Trial(stage=name, host=host, fault=f"{type(error.cause).__name__}: {error.cause}")
    except RayError as error:
        return Trial(stage=name, host=host, fault=str(error).strip().splitlines()[0])

"""What a run will take: from its plan, and from the units of it that are done, a sample for instance."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.commit import Commit
from pipelines.config import Resources
from pipelines.plan import Plan
from pipelines.progress import duration

NOT_THE_WORKERS = ("read", "pack", "write")
"""Stages of a commit's `seconds` that run beside the workers, as do those before the last ("decode.…")."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast one worker is, and how much it makes.

    Attributes:
        units: Units that it was measured on.
        rows: Their rows.
        worker_s_per_row: Seconds that a worker takes for a row; its start and loading a model not included.
        error: Relative standard error of that, over the units; None for a single unit.
        bytes_per_row: Bytes of data objects for a row.
        results_per_row: Result rows for a row.
    """

    units: int
    rows: int
    worker_s_per_row: float
    error: float | None
    bytes_per_row: float
    results_per_row: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take.

    Attributes:
        output: URI of its folder.
        objects: Objects of the input.
        input_bytes: Bytes of them.
        rows: Rows of the input.
        rows_left: Those that are not done.
        units: Units of the plan.
        units_left: Those that are not done.
        rate: What the units that are done tell; None while there are none.
        worker_hours: Hours of one worker for what is left, without its start.
        gpu_hours: The same in GPUs.
        output_bytes: Bytes of data objects in the end.
        cost: Of what is left, in the price's currency; None without a price.
    """

    output: str
    objects: int
    input_bytes: int
    rows: int
    rows_left: int
    units: int
    units_left: int
    rate: Rate | None
    worker_hours: float | None
    gpu_hours: float | None
    output_bytes: int | None
    cost: float | None


def spread_sample(pending: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Indices of `count` of the pending units, evenly spread over the plan, as tables are often sorted."""
    places = np.linspace(0, len(pending) - 1, min(count, len(pending)))
    return pending[np.round(places).astype(np.int64)]


def rate_of(commits: Iterable[Commit]) -> Rate | None:
    """The rate that some units were done at; None without any."""
    commits = [commit for commit in commits if commit.rows_in]
    if not commits:
        return None
    rows = sum(commit.rows_in for commit in commits)
    seconds = [
        sum(s for name, s in commit.seconds.items() if name not in NOT_THE_WORKERS and "." not in name)
        for commit in commits
    ]
    per_row = sum(seconds) / rows
    error = None
    if len(commits) > 1 and per_row > 0:
        each = [value / commit.rows_in for value, commit in zip(seconds, commits, strict=True)]
        error = statistics.stdev(each) / math.sqrt(len(each)) / per_row
    return Rate(
        units=len(commits),
        rows=rows,
        worker_s_per_row=per_row,
        error=error,
        bytes_per_row=sum(entry.size for commit in commits for entry in commit.outputs) / rows,
        results_per_row=sum(commit.rows_out for commit in commits) / rows,
    )


def estimate(
    output: str,
    plan: Plan,
    done: NDArray[np.bool_],
    rate: Rate | None,
    *,
    object_sizes: Iterable[int],
    resources: Resources,
    price: float | None,
) -> Estimate:
    """What the run will take.

    Args:
        output: URI of its folder.
        plan: Its units.
        done: Whether each of them is done.
        rate: As the units that are done tell.
        object_sizes: Bytes of each object of the input.
        resources: Of its workers; `num_gpus` is a number.
        price: Of a GPU's hour, or of a worker's where workers have no GPU; None to leave the cost open.
    """
    sizes = list(object_sizes)
    rows = plan.rows_total()
    rows_left = sum(unit.num_rows for unit in plan.take(np.flatnonzero(~done)))
    worker_hours = rate.worker_s_per_row * rows_left / 3600 if rate else None
    gpus = float(resources.num_gpus)
    gpu_hours = worker_hours * gpus if worker_hours is not None else None
    paid_hours = gpu_hours if gpus else worker_hours
    return Estimate(
        output=output,
        objects=len(sizes),
        input_bytes=sum(sizes),
        rows=rows,
        rows_left=rows_left,
        units=len(plan),
        units_left=int((~done).sum()),
        rate=rate,
        worker_hours=worker_hours,
        gpu_hours=gpu_hours,
        output_bytes=round(rate.bytes_per_row * rows) if rate else None,
        cost=price * paid_hours if price is not None and paid_hours is not None else None,
    )


def estimate_text(found: Estimate, label: str, results: str, num_workers: int | None) -> str:
    """The estimate for people, some lines.

    Args:
        found: The estimate.
        label: What a row is, in the plural.
        results: What a result row is.
        num_workers: To tell how long they take; None to leave it open.
    """
    lines = [
        f"{found.output}:",
        f"  input  {found.rows:,} {label} in {found.objects:,} objects, {found.input_bytes:,} bytes",
        f"  plan   {found.units:,} units, {found.units_left:,} with {found.rows_left:,} {label} not done",
    ]
    rate = found.rate
    if rate is None or found.worker_hours is None:
        return "\n".join([*lines, "  rate   unknown: --sample N runs N units, which the job then has done"])
    error = "" if rate.error is None else f" ± {rate.error:.0%}"
    speed = rate.results_per_row / rate.worker_s_per_row if rate.worker_s_per_row else 0.0
    lines.append(
        f"  rate   {speed:,.2f} {results}/s a worker{error}, from {rate.units:,} units of {rate.rows:,} "
        f"{label}, without loading the model"
    )
    lines.append(f"  left   {found.worker_hours:,.2f} worker-hours, {found.gpu_hours:,.2f} GPU-hours")
    if num_workers:
        lines.append(
            f"  time   {duration(found.worker_hours * 3600 / num_workers)} on {num_workers:,} workers"
        )
    lines.append(f"  output {found.output_bytes:,} bytes in the end")
    if found.cost is not None:
        lines.append(f"  cost   {found.cost:,.2f} for what is left")
    return "\n".join(lines)

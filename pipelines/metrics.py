"""What workers, tasks and the driver tell Prometheus, through Ray: by job, run and stage.

Each node of Ray serves them at its metrics port, named `ray_` and the name here; a counter's name then ends
with `_total`. No label has more values than a run has stages or types of errors. Nothing here raises: a
metric that cannot be told is left out.
"""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec

from ray.util.metrics import Counter, Gauge, Histogram

from pipelines.commit import Commit
from pipelines.run_labels import RunLabels
from pipelines.tally import Progress

P = ParamSpec("P")

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)
"""Bounds of the histogram's buckets; Ray counts what is above the last as twice the last."""
_RUN = ("job_name", "run")  # not "job": Prometheus gives every series a label of that name itself

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        kind: Counter, Gauge or Histogram.
        name: Without Ray's prefix.
        what: Its meaning and unit.
        labels: Besides `job_name` and `run`.
    """

    kind: type[Counter] | type[Gauge] | type[Histogram]
    name: str
    what: str
    labels: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """Its name in Prometheus."""
        return f"ray_{self.name}{'_total' if self.kind is Counter else ''}"


UNITS = Metric(kind=Counter, name="meissonic_units", what="Units that the run committed")
ROWS_DONE = Metric(kind=Counter, name="meissonic_rows_done", what="Input rows with results")
ROWS_FAILED = Metric(kind=Counter, name="meissonic_rows_failed", what="Input rows that became dead letters")
RESULTS = Metric(kind=Counter, name="meissonic_results", what="Result rows, such as images")
FAILURES = Metric(
    kind=Counter,
    name="meissonic_failures",
    what="Dead letters by what was being done and the error's type",
    labels=("stage", "error_type"),
)
EVENTS = Metric(
    kind=Counter, name="meissonic_events", what="What workers noted, such as out of memory", labels=("event",)
)
STAGE_SECONDS = Metric(
    kind=Histogram,
    name="meissonic_stage_seconds",
    what="Seconds of a unit in each stage: read, what the workers did, pack, write",
    labels=("stage",),
)
BYTES_READ = Metric(
    kind=Counter, name="meissonic_bytes_read", what="Bytes of the rows that tasks read, in memory as Arrow"
)
BYTES_WRITTEN = Metric(
    kind=Counter, name="meissonic_bytes_written", what="Bytes of the objects of committed units"
)
BUSY_SECONDS = Metric(
    kind=Counter,
    name="meissonic_worker_busy_seconds",
    what="Seconds that workers had a unit",
    labels=("stage", "gpu"),
)
IDLE_SECONDS = Metric(
    kind=Counter,
    name="meissonic_worker_idle_seconds",
    what="Seconds that workers waited for a unit",
    labels=("stage", "gpu"),
)
WORKER_STARTS = Metric(
    kind=Counter, name="meissonic_worker_starts", what="Workers built, also again", labels=("stage", "gpu")
)
UNITS_AGAIN = Metric(
    kind=Counter,
    name="meissonic_units_begun_again",
    what="Units that a worker began after another had died with them",
    labels=("stage",),
)
ROWS_TOTAL = Metric(kind=Gauge, name="meissonic_rows_planned", what="Input rows of the plan; from the driver")
ROWS_LEFT = Metric(
    kind=Gauge, name="meissonic_rows_left", what="Rows of units that are not done; from the driver"
)
TRAINING = tuple(
    Metric(kind=Gauge, name=f"meissonic_training_{name}", what=what, labels=("stage",))
    for name, what in (
        ("step", "Step of the training"),
        ("loss", "Loss of that step"),
        ("grad_norm", "Norm of its gradient"),
        ("samples_per_s", "Samples a second of all workers"),
        ("tokens_per_s", "Image tokens a second of all workers"),
        ("utilisation", "Model-FLOP utilisation, 0 to 1"),
        ("data_wait", "Share of the time that the first worker waited for data, 0 to 1"),
    )
)


def _harmless(function: Callable[P, None]) -> Callable[P, None]:
    """The function, but what it raises is only logged, once a process."""
    told = False

    @functools.wraps(function)
    def quiet(*args: P.args, **kwargs: P.kwargs) -> None:
        nonlocal told
        try:
            function(*args, **kwargs)
        except Exception:  # whatever it is: a metric must not fail a unit
            if not told:
                told = True
                _log.warning("metrics are not told", exc_info=True)

    return quiet


@_harmless
def count_commit(labels: RunLabels, commit: Commit, bytes_read: int) -> None:
    """Count a unit that this run committed.

    Args:
        labels: Of the run.
        commit: The unit's record.
        bytes_read: Bytes of its rows.
    """
    _add(UNITS, labels, 1)
    _add(ROWS_DONE, labels, commit.rows_done)
    _add(ROWS_FAILED, labels, commit.rows_failed)
    _add(RESULTS, labels, commit.rows_out)
    _add(BYTES_READ, labels, bytes_read)
    entries = (*commit.outputs, commit.failed) if commit.failed else commit.outputs
    _add(BYTES_WRITTEN, labels, sum(entry.size for entry in entries))
    for kind, count in commit.failures.items():
        stage, _, error_type = kind.partition(": ")
        _add(FAILURES, labels, count, stage=stage, error_type=error_type)
    for event, count in commit.events.items():
        _add(EVENTS, labels, count, event=event.partition(" at ")[0])  # sizes and batches stay out
    for stage, seconds in commit.seconds.items():
        _instrument(STAGE_SECONDS).observe(seconds, _tags(labels, stage=stage))


@_harmless
def count_worker_time(labels: RunLabels, stage: str, has_gpu: bool, busy_s: float, idle_s: float) -> None:
    """Count how long a worker had a unit, and how long none, in seconds."""
    _add(BUSY_SECONDS, labels, busy_s, stage=stage, gpu=_yes(has_gpu))
    _add(IDLE_SECONDS, labels, idle_s, stage=stage, gpu=_yes(has_gpu))


@_harmless
def count_worker_start(labels: RunLabels, stage: str, has_gpu: bool) -> None:
    """Count a worker that was built."""
    _add(WORKER_STARTS, labels, 1, stage=stage, gpu=_yes(has_gpu))


@_harmless
def count_unit_again(labels: RunLabels, stage: str) -> None:
    """Count a unit whose last worker died with it."""
    _add(UNITS_AGAIN, labels, 1, stage=stage)


@_harmless
def show_progress(labels: RunLabels, progress: Progress) -> None:
    """Tell how much the run has to do; for the driver, now and then."""
    _instrument(ROWS_TOTAL).set(progress.rows_total, _tags(labels))
    _instrument(ROWS_LEFT).set(progress.rows_left, _tags(labels))


@_harmless
def show_training(labels: RunLabels, stage: str, measures: dict[str, float]) -> None:
    """Tell how a training goes.

    Args:
        labels: Of the run.
        stage: Of the training.
        measures: By the names in TRAINING without their prefix; others are left out.
    """
    for metric in TRAINING:
        if (value := measures.get(metric.name.removeprefix("meissonic_training_"))) is not None:
            _instrument(metric).set(value, _tags(labels, stage=stage))


def _add(metric: Metric, labels: RunLabels, amount: float, **more: str) -> None:
    if amount > 0:  # Ray refuses to add nothing
        _instrument(metric).inc(amount, _tags(labels, **more))


def _tags(labels: RunLabels, **more: str) -> dict[str, str]:
    return {"job_name": labels.job, "run": labels.run} | more


def _yes(value: bool) -> str:
    return "true" if value else "false"


@functools.cache
def _instrument(metric: Metric) -> Any:
    """Ray's object of a metric, one a process."""
    options = {"boundaries": list(SECONDS)} if metric.kind is Histogram else {}
    return metric.kind(metric.name, metric.what, tag_keys=(*_RUN, *metric.labels), **options)

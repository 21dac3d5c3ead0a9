"""The engine of all bulk jobs: a map over the units of a plan on Ray Data, committed unit by unit.

    ledger = Ledger.open(output, RunSpec(...), units)
    stage = Stage(worker=Captioner, worker_args={...}, resources=...)
    summary = run_units(UnitJob(stages=(stage,), read=...), ledger)

Reading tasks, workers that hold a model, and writing tasks run at once; the driver sees one small record a
unit. It may be killed at any instant and started again, on a cluster of any size.
"""

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, cast

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.attempts import Attempts
from pipelines.budget import cluster_nodes, io_share
from pipelines.commit import Commit, commit_path
from pipelines.envelope import unwrap, wrap
from pipelines.errors import LedgerError, RefusalError, TransientError
from pipelines.growing import wait_for_nodes
from pipelines.io_stages import CommitStage, ReadStage
from pipelines.ledger import Ledger
from pipelines.metrics import show_progress
from pipelines.plan import Unit
from pipelines.records import Records
from pipelines.run_labels import RunLabels
from pipelines.storage import StorageError
from pipelines.tally import Progress, RunSummary, Tally
from pipelines.ticking import ticking
from pipelines.unit_job import UnitJob
from pipelines.worker import StageSettings, WorkerError, WorkerStage

WAVE_UNITS = 20_000
"""Ray Data keeps some 10 KB for each block of an execution; each wave starts the actors anew."""


class JobFailedError(RefusalError):
    """The job stopped; what it committed stays. The message has the first error."""


class ClusterFaultError(JobFailedError, TransientError):
    """Ray itself failed: a node or the head was lost in a way that it does not mend."""


class FailureRateError(JobFailedError):
    """More rows failed than the job allows."""


def run_units(
    job: UnitJob,
    ledger: Ledger,
    on_progress: Callable[[Progress], None] | None = None,
    wave_units: int = WAVE_UNITS,
    sample: Sequence[int] | None = None,
) -> RunSummary:
    """Run all units that are not done, then write the manifest.

    Args:
        job: What to run.
        ledger: The output folder.
        on_progress: Called about once a second from a thread of its own, and a last time at the end.
        wave_units: Units to hand to Ray Data at once.
        sample: Indices in the plan of the units to run, for an estimate; None for all. The manifest
            waits until all are done.

    Raises:
        ClusterTooSmallError: The cluster cannot run the job as configured.
        FailureRateError: Too many rows failed.
        JobFailedError: The job's code raised; the message has the original error.
    """
    plan = ledger.planned()
    records = Records(ledger.storage, plan)
    records.roll_up()
    tally = Tally(plan)
    tally.add_earlier(records.in_order())
    pending = records.pending() if sample is None else np.intersect1d(sample, records.pending())
    if len(pending):
        _quiet_ray_data()
        job = job.on_cluster(cluster_nodes())
        attempts = [_start_attempts(job) for _ in job.stages]
        hosts: set[str] = set()
        labels = RunLabels.of(ledger.spec.job, ledger.storage.uri)

        def report() -> None:
            show_progress(labels, tally.progress())
            if on_progress is not None:
                busy = sum(ray.get([record.busy_workers.remote() for record in attempts]))
                on_progress(tally.progress(busy, _worker_deaths(attempts)))

        with ticking(report):
            resources = [stage.resources for stage in job.stages]
            ranges = wait_for_nodes(resources, len(pending), tally.wait_for)
            num_actors = [most for _, most in ranges]
            for start in range(0, len(pending), wave_units):
                units = plan.take(pending[start : start + wave_units])
                with closing(_run_wave(job, ledger, units, num_actors, attempts)) as wave:
                    for commit, is_ours in wave:
                        if commit.host not in hosts:  # a request a unit would hold the driver up
                            _check_shared(ledger, commit)
                            hosts.add(commit.host)
                        records.add(commit)
                        if is_ours:
                            tally.add(commit)
                        else:
                            tally.add_earlier([commit])
                        _check_failure_rate(job, ledger, tally)
    if len(records.pending()):
        return tally.summary(ledger.storage.uri)
    return tally.summary(ledger.storage.uri, ledger.write_manifest(records))


def _run_wave(
    job: UnitJob,
    ledger: Ledger,
    units: Sequence[Unit],
    num_actors: Sequence[int],
    attempts: Sequence[Any],
) -> Generator[tuple[Commit, bool]]:
    """The commits of these units, as they are made, and whether this run made them, or another just before.

    Closing the generator stops Ray Data.
    """
    resources = [stage.resources for stage in job.stages]
    io_cpus, num_readers = io_share(resources, cluster_nodes(), num_actors)
    dataset = (
        # not from_arrow, which runs a task a block to learn its size
        ray.data.from_blocks([wrap({"unit": unit.to_json()}, {}) for unit in units]).map_batches(
            ReadStage(job.read, ledger),
            compute=ray.data.TaskPoolStrategy(size=num_readers),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=io_cpus,
        )
    )
    for stage, count, record in zip(job.stages, num_actors, attempts, strict=True):
        threads = stage.resources.threads_per_actor
        settings = StageSettings(
            name=stage.name,
            attempts=record,
            labels=RunLabels.of(ledger.spec.job, ledger.storage.uri),
            row_id=ledger.spec.row_id,
            unit_timeout_s=job.unit_timeout_s,
            max_poison_rows=job.max_poison_rows,
        )
        dataset = dataset.map_batches(
            WorkerStage,
            fn_constructor_kwargs={
                "worker": stage.worker,
                "worker_args": stage.worker_args,
                "settings": settings,
            },
            # All at once: an autoscaler adds nodes for those that find no place; Ray Data would scale the
            # pool within what the cluster has.
            compute=ray.data.ActorPoolStrategy(size=count),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=stage.resources.num_cpus,
            num_gpus=float(stage.resources.num_gpus),
            label_selector=stage.resources.node_labels or None,
            # Before the process starts: torch reads it once, when it is imported.
            runtime_env={} if threads is None else {"env_vars": {"OMP_NUM_THREADS": str(threads)}},
        )
    dataset = dataset.map_batches(
        CommitStage(job.pack, ledger), batch_size=1, batch_format="pyarrow", num_cpus=io_cpus
    )
    dataset.context.enable_progress_bars = False
    dataset.context.print_on_execution_start = False
    dataset.context.raise_original_map_exception = True
    batches = dataset.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0)
    blocks = cast(Generator[pa.Table], iter(batches))
    with closing(blocks):  # an abandoned generator would leave Ray Data running
        try:
            for block in blocks:
                facts, _ = unwrap(block)
                yield Commit.from_json(facts["commit"]), facts["is_ours"]
        except RayError as error:
            raise _job_error(error) from error


def _worker_deaths(attempts: Sequence[Any]) -> int:
    return sum(ray.get([record.worker_deaths.remote() for record in attempts]))


def _quiet_ray_data() -> None:
    """Keep Ray Data's own lines out of the progress; all of them stay in its log file."""
    for handler in logging.getLogger("ray.data").handlers:
        if handler.name == "console":
            handler.setLevel(logging.CRITICAL)


def _start_attempts(job: UnitJob) -> Any:
    """A stage's record of attempts, as an actor on the driver's node: it lives and dies with the driver."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return (
        ray.remote(Attempts)
        .options(num_cpus=0, scheduling_strategy=here)
        .remote(job.max_poison_rows, job.unit_timeout_s)
    )


def _check_shared(ledger: Ledger, commit: Commit) -> None:
    """That what a worker's node committed is there for the driver too."""
    if not ledger.storage.exists(commit_path(commit.unit)):
        raise LedgerError(
            f"{ledger.storage.uri}: unit {commit.unit} was committed on {commit.host}, but is not there for "
            "the driver: the nodes do not share this folder; use s3://"
        )


def _check_failure_rate(job: UnitJob, ledger: Ledger, tally: Tally) -> None:
    failed, rows = tally.failure_rate()
    if rows >= job.failure_rate_rows and failed > job.max_failure_rate * rows:
        kinds = tally.summary(ledger.storage.uri).failures
        shown = ", ".join(
            f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda item: -item[1])[:5]
        )
        raise FailureRateError(
            f"{ledger.storage.uri}: {failed} of {rows} rows failed, more than {job.max_failure_rate:.1%} "
            f"({shown}); read failed/*.parquet, correct the cause, start the job again, and run retry-failed "
            "at its end; or raise max_failure_rate"
        )


def _job_error(error: RayError) -> JobFailedError:
    """What the job's code raised, without Ray's frames; they stay in the exception's cause."""
    if not isinstance(error, RayTaskError):
        return ClusterFaultError(f"Ray: {error}")
    cause = error.cause
    ours = isinstance(cause, WorkerError | LedgerError | StorageError)
    return JobFailedError(str(cause) if ours else f"{type(cause).__name__}: {cause}\n{error.traceback_str}")

"""The middle stage of a job: an actor that holds the job's worker and runs whole units through it."""

import time
import traceback
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import ray

from pipelines.attempts import Attempt
from pipelines.envelope import unwrap, wrap
from pipelines.plan import Unit
from schemas.failed import FAILED

CRASH_MESSAGE = (
    "the worker's process died whenever it ran this row, at last by itself; see Ray's logs of that worker"
)


class WorkerError(Exception):
    """A worker failed in a way that is not a row's fault; the job stops."""


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A row that could not be processed.

    Attributes:
        row: Its index within the table given to `process`.
        stage: What was being done, such as "decode".
        error_type: Name of the error's type.
        message: What was wrong. Must not vary between runs: no times, addresses or hosts.
    """

    row: int
    stage: str
    error_type: str
    message: str

    @classmethod
    def of(cls, row: int, stage: str, error: Exception) -> "DeadLetter":
        """The dead letter of a row whose processing raised this error."""
        return cls(row=row, stage=stage, error_type=type(error).__name__, message=str(error))


@dataclass(frozen=True, kw_only=True)
class WorkerResult:
    """What became of some rows.

    Attributes:
        table: Result rows, in input order: one or more for each row that did not fail, with the run's
            `row_id` column. Its schema is always the same, also without rows.
        failed: The rows that could not be processed.
        seconds: Where the time went, by a name such as "forward".
    """

    table: pa.Table
    failed: list[DeadLetter] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Worker(Protocol):
    """A job's own work. Built once an actor, from `worker_args`; models are loaded there."""

    def process(self, rows: pa.Table) -> WorkerResult:
        """Process some rows of one unit, on their own: a row's result depends on that row only.

        A fault of a row is caught and becomes a dead letter; whatever is raised stops the job.
        """
        ...


class WorkerStage:
    """Ray Data's callable: takes a read unit, gives its results and dead letters."""

    def __init__(self, worker: type[Worker], worker_args: dict[str, Any], attempts: Any, row_id: str) -> None:
        self.attempts = attempts
        self.row_id = row_id
        self.name = ray.get_runtime_context().get_actor_id()
        self.worker: Worker | None = None
        self.fault: str = ray.get(attempts.build.remote(self.name))
        if not self.fault:
            self._build(worker, worker_args)
            ray.get(attempts.built.remote(self.name))

    def _build(self, worker: type[Worker], worker_args: dict[str, Any]) -> None:
        try:
            self.worker = worker(**worker_args)
        except Exception as error:  # raised with the first unit: Ray buries what a constructor raises
            self.fault = f"the worker cannot be built: {type(error).__name__}: {error}"
            traceback.print_exc()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Run the unit in a one-row block; the result is such a block again."""
        if self.worker is None:
            raise WorkerError(self.fault)
        facts, tables = unwrap(block)
        unit, rows = Unit.from_json(facts["unit"]), tables["rows"]
        attempt: Attempt = ray.get(self.attempts.begin.remote(unit.id, unit.num_rows, self.name))
        if attempt.hopeless:
            raise WorkerError(
                f"unit {unit.id}: {attempt.hopeless}; the fault is likely the worker's, not the data's"
            )
        results: dict[int, WorkerResult] = {}
        seconds: dict[str, float] = dict(facts["seconds"])
        for start, stop in attempt.groups:
            if attempt.narrowing:
                ray.get(self.attempts.enter.remote(unit.id, start, stop))
            began = time.monotonic()
            results[start] = _process(self.worker, unit, rows.slice(start, stop - start))
            if attempt.narrowing:
                ray.get(self.attempts.leave.remote(unit.id))
            own = results[start].seconds
            for name, value in (own | {"process": time.monotonic() - began - sum(own.values())}).items():
                seconds[name] = seconds.get(name, 0.0) + max(value, 0.0)
        crashed = DeadLetter(row=0, stage="worker", error_type="WorkerCrashed", message=CRASH_MESSAGE)
        letters = [(row, crashed) for row in attempt.crashed]
        letters += [(start + letter.row, letter) for start, r in results.items() for letter in r.failed]
        ids = rows[self.row_id].cast(pa.string())
        ray.get(self.attempts.finish.remote(unit.id))
        return wrap(
            facts | {"seconds": seconds, "attempts": attempt.number},
            {
                "row_ids": pa.table({"id": ids}),
                "results": pa.concat_tables(
                    [results[start].table for start in sorted(results)] or [pa.table({})]
                ),
                "failed": failed_table(unit, ids, sorted(letters, key=lambda pair: pair[0])),
            },
        )


def _process(worker: Worker, unit: Unit, rows: pa.Table) -> WorkerResult:
    try:
        result = worker.process(rows)
    except Exception as error:
        raise WorkerError(f"unit {unit.id} ({unit.path}): {type(error).__name__}: {error}") from error
    wrong = [letter.row for letter in result.failed if not 0 <= letter.row < rows.num_rows]
    if wrong:
        raise WorkerError(
            f"unit {unit.id}: dead letters for rows {wrong} of {rows.num_rows}; correct the worker"
        )
    return result


def failed_table(
    unit: Unit, ids: pa.ChunkedArray | pa.Array, letters: list[tuple[int, DeadLetter]]
) -> pa.Table:
    """The dead letters of a unit as a table of schema FAILED.

    Args:
        unit: The unit.
        ids: The ids of its rows.
        letters: Dead letters by their row's index within the unit.
    """
    rows = [row for row, _ in letters]
    return pa.table(
        {
            "row_id": ids.take(pa.array(rows, pa.int64())),
            "stage": pa.array([letter.stage for _, letter in letters], pa.string()),
            "error_type": pa.array([letter.error_type for _, letter in letters], pa.string()),
            "message": pa.array([letter.message for _, letter in letters], pa.string()),
            "path": pa.array([unit.path] * len(rows), pa.string()),
            "row": pa.array([unit.row_numbers[row] for row in rows], pa.int64()),
        },
        schema=FAILED,
    )

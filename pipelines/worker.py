"""A stage of a job: an actor that holds the stage's worker and runs whole units through it.

Between stages a unit travels as the tables `rows`, to be processed next; `places`, the index within the unit
of each of these rows; `row_ids`, of all rows of the unit; and `failed`, the dead letters so far.
"""

import faulthandler
import math
import pkgutil
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from pipelines.attempts import CRASHED, TIMED_OUT, Attempt, group_timeout_s
from pipelines.envelope import unwrap, wrap
from pipelines.metrics import count_unit_again, count_worker_start, count_worker_time
from pipelines.plan import Unit
from pipelines.run_labels import RunLabels
from pipelines.run_logs import RunLog
from pipelines.worker_time import WorkerTime
from schemas.failed import FAILED

GIVEN_UP = {
    CRASHED: "the worker's process died whenever it ran this row, at last by itself; see Ray's worker logs",
    TIMED_OUT: "this row alone took longer than unit_timeout_s allows; raise that if it is only slow",
}
MIN_ROWS_TO_JUDGE = 4
"""If every row of so many raises, the worker is at fault and not the data."""
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_MESSAGE_CHARS = 500
_STDERR = 2
_LAST_STAGE = "worker"


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
        message = _ADDRESS.sub("0x…", str(error))[:_MESSAGE_CHARS]
        return cls(row=row, stage=stage, error_type=type(error).__name__, message=message)


@dataclass(frozen=True, kw_only=True)
class WorkerResult:
    """What became of some rows.

    Attributes:
        table: Result rows, in input order: one or more for each row that did not fail, with the run's
            `row_id` column. Its schema is always the same, also without rows.
        failed: The rows that could not be processed.
        seconds: Where the time went, by a name such as "forward".
        events: What else a user may want to know, such as "out of memory", and how often; for the record.
    """

    table: pa.Table
    failed: list[DeadLetter] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)


class Worker(Protocol):
    """A job's own work. Built once an actor, from `worker_args`; models are loaded there."""

    def process(self, rows: pa.Table) -> WorkerResult:
        """Process some rows of one unit, on their own: a row's result depends on that row only.

        A fault of a row that is foreseen is caught and becomes a dead letter. If anything is raised, the rows
        are run again in halves until the one that raises it is alone, and becomes a dead letter too.
        """
        ...


def worker_class(worker: type[Worker] | str) -> type[Worker]:
    """A stage's class of workers; one of which the name is given is imported here."""
    if not isinstance(worker, str):
        return worker
    found: type[Worker] = pkgutil.resolve_name(worker)
    return found


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """What `WorkerStage` needs beside its worker.

    Attributes:
        name: Of the stage, for the record; "" for the last, whose rows are the results.
        attempts: The stage's record of attempts, an actor.
        labels: Of the run, for metrics and logs.
        row_id: Column of the rows' ids.
        unit_timeout_s: Seconds that a worker may take for a unit.
        max_poison_rows: Rows of one unit that may raise or kill, each by itself.
    """

    name: str
    attempts: Any
    labels: RunLabels
    row_id: str
    unit_timeout_s: float
    max_poison_rows: int

    @property
    def shown_name(self) -> str:
        """The stage's name in metrics and logs."""
        return self.name or _LAST_STAGE


class WorkerStage:
    """Ray Data's callable: takes the rows of a unit, gives their results and dead letters."""

    def __init__(
        self, worker: type[Worker] | str, worker_args: dict[str, Any], settings: StageSettings
    ) -> None:
        self.settings, self.attempts = settings, settings.attempts
        context = ray.get_runtime_context()
        self.name = context.get_actor_id()
        self.log = RunLog(labels=settings.labels, stage=settings.shown_name)
        has_gpu = bool(context.get_accelerator_ids().get("GPU"))
        self.worker: Worker | None = None
        self.fault = ""
        with self._noting_a_fault():  # first of all: imports take seconds, in which `attempts` starts
            found = worker_class(worker)
        self.fault = self.fault or ray.get(self.attempts.build.remote(self.name))
        if not self.fault:
            self._build(found, worker_args)
            ray.get(self.attempts.built.remote(self.name))
            count_worker_start(settings.labels, settings.shown_name, has_gpu)
        self.time = WorkerTime(partial(count_worker_time, settings.labels, settings.shown_name, has_gpu))
        self.time.start()

    def _build(self, worker: type[Worker], worker_args: dict[str, Any]) -> None:
        began = time.monotonic()
        with self._noting_a_fault():
            self.worker = worker(**worker_args)
            self.log.worker_built(time.monotonic() - began)

    @contextmanager
    def _noting_a_fault(self) -> Iterator[None]:
        """What is raised, is raised with the first unit: Ray buries what a constructor raises."""
        try:
            yield
        except Exception as error:
            self.fault = f"the worker cannot be built: {type(error).__name__}: {error}"
            self.log.worker_not_built()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Run the unit in a one-row block; the result is such a block again."""
        if self.worker is None:
            raise WorkerError(self.fault)
        facts, tables = unwrap(block)
        if "commit" in facts:  # somebody finished it meanwhile
            return block
        unit, rows = Unit.from_json(facts["unit"]), tables["rows"]
        if not rows.num_rows:  # all have failed before
            return block
        with self.time.busy():
            result = self._run(self.worker, unit, facts, tables)
        self.time.tell()
        return result

    def _run(
        self, worker: Worker, unit: Unit, facts: dict[str, Any], tables: dict[str, pa.Table]
    ) -> pa.Table:
        began, rows = time.monotonic(), tables["rows"]
        attempt: Attempt = ray.get(self.attempts.begin.remote(unit.id, rows.num_rows, self.name))
        if attempt.hopeless:
            raise WorkerError(
                f"unit {unit.id}: {attempt.hopeless}; the fault is likely the worker's, not the data's"
            )
        self.log.unit_begun(unit.id, rows.num_rows, attempt.number)
        if attempt.number > 1:
            count_unit_again(self.settings.labels, self.settings.shown_name)
        run = UnitRun(worker, unit, rows, self.settings)
        for start, stop in attempt.groups:
            if attempt.narrowing:
                ray.get(self.attempts.enter.remote(unit.id, start, stop))
            run.process(start, stop)
            if attempt.narrowing:
                ray.get(self.attempts.leave.remote(unit.id))
        for row, why in attempt.given_up.items():
            run.letters[row] = DeadLetter(row=0, stage="worker", error_type=why, message=GIVEN_UP[why])
        places = tables["places"]["place"].to_numpy()
        letters = [(int(places[row]), letter) for row, letter in sorted(run.letters.items())]
        failed = failed_table(unit, tables["row_ids"]["id"], letters)
        results = run.table()
        if self.settings.name:
            places = np.delete(places, list(run.letters))
            self._check_kept(unit, results, tables["row_ids"]["id"], places)
        ray.get(self.attempts.finish.remote(unit.id))
        self.log.noted(unit.id, run.events)
        self.log.unit_finished(unit.id, rows.num_rows, len(run.letters), time.monotonic() - began)
        prefix = f"{self.settings.name}." if self.settings.name else ""
        return wrap(
            facts
            | {
                "seconds": facts["seconds"] | {prefix + name: value for name, value in run.seconds.items()},
                "events": dict(run.events + Counter(facts["events"])),
                "attempts": max(facts["attempts"], attempt.number),
            },
            tables
            | {
                "rows": results,
                "places": pa.table({"place": places}),
                "failed": pa.concat_tables([tables["failed"], failed]).sort_by("row"),
            },
        )

    def _check_kept(
        self, unit: Unit, results: pa.Table, ids: pa.ChunkedArray, places: NDArray[np.int64]
    ) -> None:
        """That a stage before the last gives one row for each that did not fail, in order."""
        expected = ids.take(pa.array(places)).to_pylist()
        if results.num_rows != len(expected) or (
            len(expected) and results[self.settings.row_id].cast(pa.string()).to_pylist() != expected
        ):
            raise WorkerError(
                f"unit {unit.id}: stage '{self.settings.name}' gave {results.num_rows} rows for "
                f"{len(expected)} that did not fail, or others; it must give one for each, in order"
            )


class UnitRun:
    """One attempt to run a unit's rows: collects what becomes of them.

    Attributes:
        letters: Dead letters by their row's index within the unit.
        seconds: Where the time went.
        events: What the worker noted.
    """

    def __init__(self, worker: Worker, unit: Unit, rows: pa.Table, settings: StageSettings) -> None:
        self.letters: dict[int, DeadLetter] = {}
        self.seconds: dict[str, float] = defaultdict(float)
        self.events: Counter[str] = Counter()
        self._worker, self._unit, self._rows, self._settings = worker, unit, rows, settings
        self._log = RunLog(labels=settings.labels, stage=settings.shown_name)
        self._tables: dict[int, pa.Table] = {}
        self._num_raised = 0

    def table(self) -> pa.Table:
        """The results, in the order of the rows."""
        return pa.concat_tables([self._tables[start] for start in sorted(self._tables)] or [pa.table({})])

    def process(self, start: int, stop: int) -> None:
        """Run these rows; whatever raises or kills is narrowed down to the row that does it.

        Raises:
            WorkerError: So many rows raise that the worker must be at fault, or it breaks its contract.
        """
        rows = self._rows.slice(start, stop - start)
        limit_s = group_timeout_s(stop - start, self._rows.num_rows, self._settings.unit_timeout_s)
        began = time.monotonic()
        try:
            with _time_limit(limit_s):
                result = self._worker.process(rows)
        except Exception as error:
            self._log.rows_raised(self._unit.id, start, stop)
            if stop - start == 1:
                self._give_up(start, error)
            else:
                middle = (start + stop) // 2
                self.process(start, middle)
                self.process(middle, stop)
            return
        wrong = [letter.row for letter in result.failed if not 0 <= letter.row < rows.num_rows]
        if wrong:
            raise WorkerError(
                f"unit {self._unit.id}: dead letters for rows {wrong} of {rows.num_rows}; correct the worker"
            )
        self._tables[start] = result.table
        self.letters |= {start + letter.row: letter for letter in result.failed}
        self.events.update(result.events)
        for name, seconds in result.seconds.items():
            self.seconds[name] += seconds
        self.seconds["process"] += max(time.monotonic() - began - sum(result.seconds.values()), 0.0)

    def _give_up(self, row: int, error: Exception) -> None:
        self.letters[row] = DeadLetter.of(row, "worker", error)
        self._num_raised += 1
        raised, num_rows = self._num_raised, self._rows.num_rows
        if raised > self._settings.max_poison_rows or raised == num_rows >= MIN_ROWS_TO_JUDGE:
            raise WorkerError(
                f"unit {self._unit.id} ({self._unit.path}): {raised} of {num_rows} rows raised, each by "
                f"itself, the last {type(error).__name__}: {error}; the fault is likely the worker's"
            ) from error


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """End this process, with a trace in its log, if the block takes longer.

    The watchdog is a thread of the interpreter's own: it also works while C code holds the lock.
    """
    if not math.isfinite(seconds):
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def failed_table(
    unit: Unit, ids: pa.ChunkedArray | pa.Array, letters: list[tuple[int, DeadLetter]]
) -> pa.Table:
    """The dead letters of a unit as a table of schema FAILED.

    Args:
        unit: The unit.
        ids: The ids of its rows.
        letters: Dead letters and their row's index within the unit.
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

"""How far a run is, and how it ended: the numbers, added up from commit records."""

import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.commit import Commit
from pipelines.plan import Plan, unit_key

_WINDOW_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is.

    Attributes:
        rows_total: Input rows of the whole plan.
        rows_done: Rows with results, also from earlier runs.
        rows_failed: Rows that are dead letters now, also from earlier runs.
        rows_earlier: Rows that earlier runs had brought to an end.
        rows_left: Rows of units that are not done.
        units_total: Units of the plan and its retries.
        units_done: Those that are done.
        busy_workers: Workers that hold a unit now.
        worker_deaths: Times that a worker died with a unit in this run; the unit ran again.
        waiting_for: What the run waits for before it begins; "" when nothing.
        elapsed_s: Seconds since this run began.
        rows_per_s: Rows brought to an end a second lately; 0 while none are.
        results_per_s: Result rows made a second lately.
    """

    rows_total: int
    rows_done: int
    rows_failed: int
    rows_earlier: int
    rows_left: int
    units_total: int
    units_done: int
    busy_workers: int
    worker_deaths: int
    waiting_for: str
    elapsed_s: float
    rows_per_s: float
    results_per_s: float

    @property
    def eta_s(self) -> float | None:
        """Seconds until the end at this rate; None while there is no rate."""
        return self.rows_left / self.rows_per_s if self.rows_per_s else None


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """How a run ended.

    Attributes:
        output: URI of the output folder.
        manifest: URI of its manifest.
        units: Units of the plan and its retries.
        units_run: Those that this run computed.
        rows: Input rows of the whole plan.
        rows_done: Rows with results.
        rows_failed: Rows that are dead letters.
        rows_out: Result rows.
        bytes_out: Bytes of the objects that hold them.
        rows_run: Rows that this run brought to an end.
        results_run: Result rows that this run made.
        elapsed_s: Seconds that this run took.
        seconds: Where the time of all workers and tasks went, by stage, over all runs.
        events: What workers noted, such as memory that ran out, and how often; over all runs.
        failures: Dead letters by "stage: error type".
    """

    output: str
    manifest: str
    units: int
    units_run: int
    rows: int
    rows_done: int
    rows_failed: int
    rows_out: int
    bytes_out: int
    rows_run: int
    results_run: int
    elapsed_s: float
    seconds: dict[str, float]
    events: dict[str, int]
    failures: dict[str, int]

    @property
    def rows_per_s(self) -> float:
        """Rows that this run brought to an end, a second."""
        return self.rows_run / self.elapsed_s

    @property
    def results_per_s(self) -> float:
        """Result rows that this run made, a second."""
        return self.results_run / self.elapsed_s


class Tally:
    """The running totals of a run.

    Args:
        plan: Its units.
    """

    def __init__(self, plan: Plan) -> None:
        self._units_total, self._units_done, self._units_run = len(plan), 0, 0
        self._rows_total = plan.rows_total()
        self._rows_left = plan.rows_with_retries()
        self._rows_done = self._rows_failed = self._rows_out = self._rows_earlier = 0
        self._rows_run = self._results_run = 0
        self._first_runs = self._first_failures = 0
        self._seconds: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._with_failures: dict[int, Commit] = {}  # by position: its last attempt, where it left some
        self._bytes_out = 0
        self._waiting_for = ""
        self._began = time.monotonic()
        self._window: deque[tuple[float, int, int]] = deque([(self._began, 0, 0)])

    def add_earlier(self, commits: Iterable[Commit]) -> None:
        """Count units that others finished, earlier or just now; those of one position by their rounds."""
        for commit in commits:
            self._count(commit)
            self._rows_earlier += commit.rows_in if unit_key(commit.unit)[1] == 0 else 0

    def add(self, commit: Commit) -> None:
        """Count a unit that this run finished."""
        self._count(commit)
        self._units_run += 1
        self._rows_run += commit.rows_in
        self._results_run += commit.rows_out
        if unit_key(commit.unit)[1] == 0:
            self._first_runs += commit.rows_in
            self._first_failures += commit.rows_failed
        now = time.monotonic()
        self._window.append((now, self._rows_run, self._results_run))
        while len(self._window) > 2 and self._window[1][0] < now - _WINDOW_S:
            self._window.popleft()

    def wait_for(self, what: str) -> None:
        """Note what the run waits for; "" when nothing."""
        self._waiting_for = what

    def failure_rate(self) -> tuple[int, int]:
        """Failed rows and all rows of the units that this run finished; retries are not counted."""
        return self._first_failures, self._first_runs

    def progress(self, busy_workers: int = 0, worker_deaths: int = 0) -> Progress:
        """Where the run is now."""
        since, rows, results = self._window[0]
        seconds = time.monotonic() - since
        return Progress(
            rows_total=self._rows_total,
            rows_done=self._rows_done,
            rows_failed=self._rows_failed,
            rows_earlier=self._rows_earlier,
            rows_left=self._rows_left,
            units_total=self._units_total,
            units_done=self._units_done,
            busy_workers=busy_workers,
            worker_deaths=worker_deaths,
            waiting_for=self._waiting_for,
            elapsed_s=time.monotonic() - self._began,
            rows_per_s=(self._rows_run - rows) / seconds if seconds > 0 else 0.0,
            results_per_s=(self._results_run - results) / seconds if seconds > 0 else 0.0,
        )

    def summary(self, output: str, manifest: str = "") -> RunSummary:
        """The run's end."""
        return RunSummary(
            output=output,
            manifest=manifest,
            units=self._units_total,
            units_run=self._units_run,
            rows=self._rows_total,
            rows_done=self._rows_done,
            rows_failed=self._rows_failed,
            rows_out=self._rows_out,
            bytes_out=self._bytes_out,
            rows_run=self._rows_run,
            results_run=self._results_run,
            elapsed_s=time.monotonic() - self._began,
            seconds=dict(self._seconds),
            events=dict(self._events),
            failures={kind: count for kind, count in self._failures.items() if count},
        )

    def _count(self, commit: Commit) -> None:
        position, _ = unit_key(commit.unit)
        self._units_done += 1
        self._rows_left -= commit.rows_in
        self._rows_done += commit.rows_done
        self._rows_out += commit.rows_out
        self._bytes_out += sum(entry.size for entry in commit.outputs)
        self._seconds.update(commit.seconds)
        self._events.update(commit.events)
        if (before := self._with_failures.pop(position, None)) is not None:
            self._rows_failed -= before.rows_failed
            self._failures.subtract(before.failures)
        if commit.rows_failed:
            self._rows_failed += commit.rows_failed
            self._failures.update(commit.failures)
            self._with_failures[position] = commit

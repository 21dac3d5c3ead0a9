"""How far a run is, and how it ended: the numbers, added up from commit records."""

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipelines.commit import Commit
from pipelines.plan import Unit

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
        rows_run: Rows that this run brought to an end.
        results_run: Result rows that this run made.
        elapsed_s: Seconds that this run took.
        seconds: Where the time of all workers and tasks went, by stage, over all runs.
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
    rows_run: int
    results_run: int
    elapsed_s: float
    seconds: dict[str, float]
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
        units: All units of the plan and its retries.
        commits: The records of those that earlier runs finished.
    """

    def __init__(self, units: Iterable[Unit], commits: Mapping[str, Commit]) -> None:
        self._units = {unit.id: unit for unit in units}
        self._done: list[Commit] = []
        self._newest: dict[int, tuple[int, Commit]] = {}  # by position: round and record
        self._rows_total = sum(unit.num_rows for unit in self._units.values() if unit.round == 0)
        self._rows_left = sum(unit.num_rows for unit in self._units.values())
        self._rows_done = self._rows_failed = 0
        for commit in commits.values():
            self._count(commit)
        self._num_earlier = len(self._done)
        self._rows_earlier = self._rows_done + self._rows_failed
        self._began = time.monotonic()
        self._window: deque[tuple[float, int, int]] = deque([(self._began, 0, 0)])
        self._rows_run = self._results_run = 0
        self._first_runs = self._first_failures = 0

    def add(self, commit: Commit) -> None:
        """Count a unit that this run finished."""
        self._count(commit)
        self._rows_run += commit.rows_in
        self._results_run += commit.rows_out
        if self._units[commit.unit].round == 0:
            self._first_runs += commit.rows_in
            self._first_failures += commit.rows_failed
        now = time.monotonic()
        self._window.append((now, self._rows_run, self._results_run))
        while len(self._window) > 2 and self._window[1][0] < now - _WINDOW_S:
            self._window.popleft()

    def failure_rate(self) -> tuple[int, int]:
        """Failed rows and all rows of the units that this run finished; retries are not counted."""
        return self._first_failures, self._first_runs

    def progress(self, busy_workers: int) -> Progress:
        """Where the run is now."""
        since, rows, results = self._window[0]
        seconds = time.monotonic() - since
        return Progress(
            rows_total=self._rows_total,
            rows_done=self._rows_done,
            rows_failed=self._rows_failed,
            rows_earlier=self._rows_earlier,
            rows_left=self._rows_left,
            units_total=len(self._units),
            units_done=len(self._done),
            busy_workers=busy_workers,
            elapsed_s=time.monotonic() - self._began,
            rows_per_s=(self._rows_run - rows) / seconds if seconds > 0 else 0.0,
            results_per_s=(self._results_run - results) / seconds if seconds > 0 else 0.0,
        )

    def summary(self, output: str, manifest: str) -> RunSummary:
        """The run's end."""
        seconds: Counter[str] = Counter()
        failures: Counter[str] = Counter()
        for commit in self._done:
            seconds.update(commit.seconds)
        for _, commit in self._newest.values():
            failures.update(commit.failures)
        return RunSummary(
            output=output,
            manifest=manifest,
            units=len(self._units),
            units_run=len(self._done) - self._num_earlier,
            rows=self._rows_total,
            rows_done=self._rows_done,
            rows_failed=self._rows_failed,
            rows_out=sum(commit.rows_out for commit in self._done),
            rows_run=self._rows_run,
            results_run=self._results_run,
            elapsed_s=time.monotonic() - self._began,
            seconds=dict(seconds),
            failures=dict(failures),
        )

    def _count(self, commit: Commit) -> None:
        unit = self._units[commit.unit]
        self._done.append(commit)
        self._rows_left -= commit.rows_in
        self._rows_done += commit.rows_done
        round_before, before = self._newest.get(unit.position, (-1, None))
        if unit.round > round_before:
            self._rows_failed += commit.rows_failed - (before.rows_failed if before is not None else 0)
            self._newest[unit.position] = (unit.round, commit)

"""Find the row that kills its worker, or hangs in it.

Ray runs a unit again when its worker dies, for ever. A small actor of the run counts how often. The first
two deaths may be the machine's fault: the whole unit runs again. After that the unit runs in groups, each
reported before it starts, so that the next death tells which group to split. A single row that kills twice
is given up. A worker that takes too long ends itself (see `WorkerStage`): a death like others, but no
machine's fault, and known by how long it took.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_PLAIN_DEATHS = 2
MAX_DEATHS_ALONE = 2
MAX_BLIND_DEATHS = 4
MAX_BUILDS = 4


CRASHED, TIMED_OUT = "WorkerCrashed", "WorkerTimedOut"


def group_timeout_s(num_rows: int, unit_rows: int, unit_timeout_s: float) -> float:
    """Seconds that some rows of a unit may take: their share of the unit's, and at least a quarter of it."""
    return unit_timeout_s * max(num_rows / unit_rows, 0.25)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How a worker shall run a unit this time.

    Attributes:
        number: 1 for the first time.
        groups: Row ranges (start, stop) within the unit, in the order to run them: the suspects first.
        given_up: Row indices within the unit that are not run again, and why: CRASHED or TIMED_OUT.
        narrowing: Whether each group must be reported before it starts.
        hopeless: Why the job must stop instead, or "".
    """

    number: int
    groups: list[tuple[int, int]]
    given_up: dict[int, str]
    narrowing: bool
    hopeless: str = ""


@dataclass
class _History:
    num_rows: int
    starts: int = 0
    deaths: int = 0
    blind_deaths: int = 0  # while narrowing, but outside any group
    running: bool = False
    groups: list[tuple[int, int]] = field(default_factory=list)
    current: tuple[int, int] | None = None
    current_since: float = 0.0
    deaths_alone: dict[int, int] = field(default_factory=dict)
    given_up: dict[int, str] = field(default_factory=dict)
    worker: str = ""


class Attempts:
    """The record of a run's attempts; runs as an actor that every worker reports to.

    Args:
        max_poison_rows: Rows of one unit to give up before the worker itself is held to be at fault.
        unit_timeout_s: Seconds after which a worker ends itself.
        clock: Gives seconds.
    """

    def __init__(
        self,
        max_poison_rows: int,
        unit_timeout_s: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_poison_rows = max_poison_rows
        self._unit_timeout_s = unit_timeout_s
        self._clock = clock
        self._worker_deaths = 0
        self._units: dict[str, _History] = {}
        self._builds: dict[str, int] = {}

    def build(self, worker: str) -> str:
        """A worker is about to be built in this actor: why it must not be, or ""."""
        self._builds[worker] = self._builds.get(worker, 0) + 1
        if self._builds[worker] <= MAX_BUILDS:
            return ""
        return f"the worker's process died {MAX_BUILDS} times while it was built; it may need more memory"

    def built(self, worker: str) -> None:
        """The worker is ready."""
        self._builds[worker] = 0

    def begin(self, unit: str, num_rows: int, worker: str) -> Attempt:
        """A worker has received the unit: note it, and say how to run it."""
        history = self._units.setdefault(unit, _History(num_rows=num_rows, groups=[(0, num_rows)]))
        if history.running:
            self._note_death(history)
        history.starts += 1
        history.running, history.current, history.worker = True, None, worker
        history.current_since = self._clock()
        return Attempt(
            number=history.starts,
            groups=sorted(history.groups, key=lambda group: (group[1] - group[0], group)),
            given_up=dict(sorted(history.given_up.items())),
            narrowing=history.deaths >= MAX_PLAIN_DEATHS,
            hopeless=self._hopeless(history),
        )

    def enter(self, unit: str, start: int, stop: int) -> None:
        """The worker is about to run this group of the unit's rows."""
        if unit in self._units:  # else another worker finished it: Ray believed this one to be dead
            self._units[unit].current = (start, stop)
            self._units[unit].current_since = self._clock()

    def leave(self, unit: str) -> None:
        """The group that was entered is through."""
        if unit in self._units:
            self._units[unit].current = None

    def finish(self, unit: str) -> None:
        """The unit is through."""
        self._units.pop(unit, None)

    def busy_workers(self) -> int:
        """Workers that hold a unit now."""
        return len({history.worker for history in self._units.values()})

    def worker_deaths(self) -> int:
        """Times that a worker died with a unit."""
        return self._worker_deaths

    def _note_death(self, history: _History) -> None:
        self._worker_deaths += 1
        history.deaths += 1
        narrowed = history.deaths > MAX_PLAIN_DEATHS
        start, stop = history.current or (0, history.num_rows)
        limit_s = group_timeout_s(stop - start, history.num_rows, self._unit_timeout_s)
        timed_out = self._clock() - history.current_since >= limit_s
        if not narrowed:
            if timed_out:
                history.deaths = MAX_PLAIN_DEATHS
            if history.deaths == MAX_PLAIN_DEATHS:
                history.groups = _halves(history.groups[0])
        elif history.current is None:
            history.blind_deaths += 1
        elif stop - start > 1:
            history.groups.remove(history.current)
            history.groups += _halves(history.current)
        else:
            history.deaths_alone[start] = history.deaths_alone.get(start, 0) + 1
            if timed_out or history.deaths_alone[start] == MAX_DEATHS_ALONE:
                history.groups.remove(history.current)
                history.given_up[start] = TIMED_OUT if timed_out else CRASHED

    def _hopeless(self, history: _History) -> str:
        if len(history.given_up) > self._max_poison_rows:
            return f"{len(history.given_up)} of its rows killed the worker, each by itself"
        if history.blind_deaths > MAX_BLIND_DEATHS:
            return f"its worker died {history.deaths} times, {history.blind_deaths} of them outside any row"
        return ""


def _halves(group: tuple[int, int]) -> list[tuple[int, int]]:
    start, stop = group
    middle = (start + stop) // 2
    return [half for half in ((start, middle), (middle, stop)) if half[0] < half[1]]

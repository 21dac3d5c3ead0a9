"""Find the row that kills its worker.

Ray runs a unit again when its worker dies, for ever. A small actor of the run counts how often. The first
two deaths may be the machine's fault: the whole unit runs again. After that the unit runs in groups, each
reported before it starts, so that the next death tells which group to split. A single row that kills again
is given up.
"""

from dataclasses import dataclass, field

MAX_PLAIN_DEATHS = 2
MAX_BLIND_DEATHS = 4
MAX_BUILDS = 4


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How a worker shall run a unit this time.

    Attributes:
        number: 1 for the first time.
        groups: Row ranges (start, stop) within the unit, in the order to run them: the suspects first.
        crashed: Row indices within the unit that are given up.
        narrowing: Whether each group must be reported before it starts.
        hopeless: Why the job must stop instead, or "".
    """

    number: int
    groups: list[tuple[int, int]]
    crashed: list[int]
    narrowing: bool
    hopeless: str = ""


@dataclass
class _History:
    starts: int = 0
    deaths: int = 0
    blind_deaths: int = 0  # while narrowing, but outside any group
    running: bool = False
    groups: list[tuple[int, int]] = field(default_factory=list)
    current: tuple[int, int] | None = None
    crashed: list[int] = field(default_factory=list)
    worker: str = ""


class Attempts:
    """The record of a run's attempts; runs as an actor that every worker reports to.

    Args:
        max_crashed_rows: Rows of one unit to give up before the worker itself is held to be at fault.
    """

    def __init__(self, max_crashed_rows: int) -> None:
        self._max_crashed_rows = max_crashed_rows
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
        history = self._units.setdefault(unit, _History(groups=[(0, num_rows)]))
        if history.running:
            self._note_death(history)
        history.starts += 1
        history.running, history.current, history.worker = True, None, worker
        return Attempt(
            number=history.starts,
            groups=sorted(history.groups, key=lambda group: (group[1] - group[0], group)),
            crashed=sorted(history.crashed),
            narrowing=history.deaths >= MAX_PLAIN_DEATHS,
            hopeless=self._hopeless(history),
        )

    def enter(self, unit: str, start: int, stop: int) -> None:
        """The worker is about to run this group of the unit's rows."""
        if (
            unit in self._units
        ):  # not when another worker finished it, which Ray believed the first to be dead
            self._units[unit].current = (start, stop)

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

    def _note_death(self, history: _History) -> None:
        history.deaths += 1
        if history.deaths == MAX_PLAIN_DEATHS:
            history.groups = _halves(history.groups[0])
        if history.deaths <= MAX_PLAIN_DEATHS:
            return
        if history.current is None:
            history.blind_deaths += 1
            return
        history.groups.remove(history.current)
        if history.current[1] - history.current[0] == 1:
            history.crashed.append(history.current[0])
        else:
            history.groups += _halves(history.current)

    def _hopeless(self, history: _History) -> str:
        if len(history.crashed) > self._max_crashed_rows:
            return f"{len(history.crashed)} of its rows killed the worker, each by itself"
        if history.blind_deaths > MAX_BLIND_DEATHS:
            return f"its worker died {history.deaths} times, {history.blind_deaths} of them outside any row"
        return ""


def _halves(group: tuple[int, int]) -> list[tuple[int, int]]:
    start, stop = group
    middle = (start + stop) // 2
    return [half for half in ((start, middle), (middle, stop)) if half[0] < half[1]]

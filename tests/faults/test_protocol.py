"""Drivers and garbage collectors, any number at once, that die at any operation: each row counts once."""

import functools
import itertools
import time
from concurrent.futures import Executor, Future
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipelines.errors import LedgerError
from pipelines.ledger import PLAN_PATH, RUN_PATH, Ledger
from pipelines.manifest import MANIFEST_PATH, manifest_files
from pipelines.records import ROLLUPS
from tests.faults.memory_storage import URI, Fate, Process
from tests.faults.protocol import (
    GRACE_S,
    OTHER_RUNS,
    PLAN,
    SPEC,
    Folder,
    Program,
    Rows,
    after_rounds,
    collect,
    driver,
    undisturbed,
)

BAD = frozenset({1, 3, 4, 5})
RUN, RETRY = driver(BAD), driver(BAD, retry=True)
PAIRS = [(0, RUN, RUN), (0, RUN, collect), (0, collect, RUN)]
RETRY_PAIRS = [(1, RETRY, RETRY), (1, RETRY, collect), (1, collect, RETRY), (1, RUN, RETRY), (1, RETRY, RUN)]

IDS = [unit.id + round for unit in PLAN for round in ("", "-r1")]
FATES = st.sampled_from([Fate.DONE] * 4 + [*Fate])
LAGS_S = st.sampled_from([0, 0, 5, 20])
SKEWS_S = st.sampled_from([0.0, -1e6, 1e6])
FAST = settings(
    max_examples=25, stateful_step_count=25, deadline=None, derandomize=True, database=None, print_blob=True
)
DEEP = settings(FAST, max_examples=125, stateful_step_count=20)
DEEPEST = settings(DEEP, max_examples=500)


class Inline(Executor):
    """Does at once what it is given: a program must take the same steps whenever it runs."""

    def __init__(self, num_threads: int) -> None: ...

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        future.set_result(function(*args, **kwargs))
        return future


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each process its own storage and clock, and small runs the rollups and parts of large ones."""
    clock = SimpleNamespace(time=lambda: Process.running.time(), monotonic=time.monotonic)
    for module in ("unit_result", "garbage"):
        monkeypatch.setattr(f"pipelines.{module}.time", clock, raising=False)
    for module in ("records", "verify"):
        monkeypatch.setattr(f"pipelines.{module}.ThreadPoolExecutor", Inline)
    monkeypatch.setattr("pipelines.ledger.open_storage", lambda uri: Process.running.storage)
    monkeypatch.setattr("pipelines.records.ROLLUP_UNITS", 2)
    monkeypatch.setattr("pipelines.records.LISTED_UNITS", 2)
    monkeypatch.setattr("pipelines.ledger.manifest_files", functools.partial(manifest_files, part_objects=2))


@pytest.mark.parametrize("fate", [Fate.CRASH_AFTER, Fate.ANSWER_LOST])
@pytest.mark.parametrize("program", [RUN, pytest.param(RETRY, marks=pytest.mark.slow)])
def test_a_driver_may_die_at_any_operation(program: Program, fate: Fate) -> None:
    for steps in itertools.count():
        folder = after_rounds(BAD, 1 if program is RETRY else 0).fork()
        process = Process(folder, program)
        process.advance(steps)
        if not process.alive:
            break
        process.advance(fate=fate)
        process.finish()
        folder.finish(BAD)


@pytest.mark.parametrize(
    ("rounds", "one", "other"), [*PAIRS, *(pytest.param(*p, marks=pytest.mark.slow) for p in RETRY_PAIRS)]
)
def test_another_program_may_run_between_two_operations(rounds: int, one: Program, other: Program) -> None:
    for steps in itertools.count():
        folder = after_killed_drivers(rounds).fork()
        process = Process(folder, one, skew_s=1e6)
        process.advance(steps)
        if not process.alive:
            break
        wait_s = 0.0 if process.phase == "open" else GRACE_S  # its temporary object might be collected
        folder.clock += wait_s
        Process(folder, other, skew_s=1e6).finish()
        folder.clock += wait_s
        process.finish()
        folder.finish(BAD)


@functools.cache
def after_killed_drivers(rounds: int) -> Folder:
    """Some rounds are done; long ago a driver of the next was killed before it named any of its objects."""
    folder = after_rounds(BAD, rounds).fork()
    folder.run(lambda process: Ledger.open(URI, SPEC, PLAN))
    for path, data in undisturbed(BAD, rounds).items():
        if path not in folder.objects and path != MANIFEST_PATH:
            folder.put(path, data)
    folder.clock += GRACE_S
    return folder


class Protocol(RuleBasedStateMachine):
    """One folder, and all that may happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []

    @initialize(
        bad=st.frozensets(st.integers(1, 5)),
        rounds=st.integers(0, 2),
        steps=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    )
    def begin(self, bad: Rows, rounds: int, steps: tuple[int, int]) -> None:
        """Some rounds are done; two drivers are at the next."""
        self.bad, self.folder = bad, after_rounds(bad, rounds).fork()
        for count in steps:
            self.start_driver(retry=rounds > 0, seed=0, skew_s=0.0)
            self.processes[-1].advance(count)

    @precondition(lambda self: len(self.live) < 3)
    @rule(retry=st.booleans(), seed=st.integers(0, 2), skew_s=SKEWS_S)
    def start_driver(self, retry: bool, seed: int, skew_s: float) -> None:
        self.processes.append(Process(self.folder, driver(self.bad, retry, seed), skew_s))

    @precondition(lambda self: len(self.live) < 3 and PLAN_PATH in self.folder.objects)
    @rule(skew_s=SKEWS_S)
    def start_collector(self, skew_s: float) -> None:
        self.processes.append(Process(self.folder, collect, skew_s))

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 2), steps=st.sampled_from([1, 2, 4, 8, 16]), fate=FATES, lag_s=LAGS_S)
    def advance(self, which: int, steps: int, fate: Fate, lag_s: int) -> None:
        self.pick(which).advance(steps, fate, lag_s)

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 2), steps=st.integers(1, 5), fate=FATES, lag_s=LAGS_S)
    def advance_into_next_commit(self, which: int, steps: int, fate: Fate, lag_s: int) -> None:
        process = self.pick(which)
        while process.alive and process.phase == "commit":
            process.advance(lag_s=lag_s)
        while process.alive and process.phase != "commit":
            process.advance(lag_s=lag_s)
        process.advance(steps, fate, lag_s)

    @precondition(lambda self: self.live)
    @rule(which=st.integers(0, 2))
    def finish(self, which: int) -> None:
        self.pick(which).finish()

    @rule(seconds=st.sampled_from([30.0, GRACE_S]))
    def wait(self, seconds: float) -> None:
        self.folder.clock += seconds
        for process in self.live:
            if seconds == GRACE_S and process.phase == "open":  # its temporary object might be collected
                process.kill()

    @rule(every=st.integers(1, 2))
    def delete_rollups(self, every: int) -> None:
        for path in self.folder.paths(ROLLUPS)[::every]:
            self.folder.remove(path)

    @precondition(lambda self: RUN_PATH in self.folder.objects)
    @rule(kind=st.sampled_from(["data", "failed"]), every=st.integers(1, 3))
    def find_objects_of_an_older_program(self, kind: str, every: int) -> None:
        for path in (f"{kind}/{unit_id}.parquet" for unit_id in IDS[::every]):
            if path not in self.folder.objects:
                self.folder.put(path, b"other bytes")

    @precondition(lambda self: RUN_PATH in self.folder.objects)
    @rule(other=st.sampled_from(OTHER_RUNS))
    def open_another_run(self, other: tuple) -> None:
        before = dict(self.folder.objects)
        with pytest.raises(LedgerError, match=r"begun with another|stopped before it wrote its plan"):
            self.folder.run(lambda process: Ledger.open(URI, *other))
        assert self.folder.objects == before

    def teardown(self) -> None:
        for process in self.processes:
            process.kill()
        self.folder.finish(self.bad)
        self.folder.verify(self.bad)

    @property
    def live(self) -> list[Process]:
        return [process for process in self.processes if process.alive]

    def pick(self, which: int) -> Process:
        return self.live[which % len(self.live)]


def test_any_number_of_programs_may_run_and_die() -> None:
    run_state_machine_as_test(Protocol, settings=FAST)


@pytest.mark.parametrize(
    "depth",
    [
        pytest.param(DEEP, id="long", marks=pytest.mark.reliability),
        pytest.param(DEEPEST, id="longer", marks=[pytest.mark.reliability, pytest.mark.timeout(1800)]),
    ],
)
def test_any_number_of_programs_may_run_and_die_for_long(depth: settings) -> None:
    run_state_machine_as_test(Protocol, settings=depth)

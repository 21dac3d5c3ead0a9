"""Deaths of workers narrow a unit down to the rows that cause them."""

from pipelines.attempts import Attempts, group_timeout_s


def _run(attempts: Attempts, num_rows: int, deadly: set[int]) -> tuple[int, list[int], list[int]]:
    """Run a unit until it is through, dying on the deadly rows: attempts, rows that ran, rows given up."""
    for number in range(1, 1000):
        attempt = attempts.begin("unit", num_rows, "worker")
        assert attempt.number == number
        assert not attempt.hopeless
        ran: list[int] = []
        for start, stop in attempt.groups:
            if attempt.narrowing:
                attempts.enter("unit", start, stop)
            if deadly.intersection(range(start, stop)):
                break
            ran += range(start, stop)
            if attempt.narrowing:
                attempts.leave("unit")
        else:
            attempts.finish("unit")
            return number, ran, list(attempt.given_up)
    raise AssertionError("never through")


def test_a_healthy_unit_runs_once_and_whole() -> None:
    attempts = Attempts(16)
    attempt = attempts.begin("unit", 10, "worker")
    assert (attempt.number, attempt.groups, attempt.narrowing) == (1, [(0, 10)], False)
    assert attempts.busy_workers() == 1
    attempts.finish("unit")
    assert attempts.busy_workers() == 0


def test_two_deaths_only_repeat_the_unit() -> None:
    attempts = Attempts(16)
    for _ in range(2):
        assert attempts.begin("unit", 10, "worker").groups == [(0, 10)]
    assert attempts.begin("unit", 10, "worker").narrowing


def test_one_deadly_row_is_isolated_in_few_deaths() -> None:
    for deadly in (0, 100, 255):
        number, ran, crashed = _run(Attempts(16), 256, {deadly})
        assert crashed == [deadly]
        assert sorted(ran) == [row for row in range(256) if row != deadly]
        assert number <= 2 + 8 + 2 + 1


def test_several_deadly_rows_are_isolated() -> None:
    _, ran, crashed = _run(Attempts(16), 50, {3, 4, 40})
    assert crashed == [3, 4, 40]
    assert sorted([*ran, *crashed]) == list(range(50))


def test_a_unit_of_one_row() -> None:
    _, ran, crashed = _run(Attempts(16), 1, {0})
    assert (ran, crashed) == ([], [0])


def test_a_worker_that_no_row_survives_is_hopeless() -> None:
    attempts = Attempts(3)
    for _ in range(200):
        attempt = attempts.begin("unit", 64, "worker")
        if attempt.hopeless:
            assert "4 of its rows killed the worker" in attempt.hopeless
            return
        if attempt.narrowing:
            attempts.enter("unit", *attempt.groups[0])
    raise AssertionError("never given up")


def test_a_row_is_not_blamed_for_one_death() -> None:
    attempts = Attempts(16)
    for _ in range(3):
        attempt = attempts.begin("unit", 2, "worker")
    attempts.enter("unit", 0, 1)  # dies here, for a reason of the machine's
    assert attempts.begin("unit", 2, "worker").groups == [(0, 1), (1, 2)]
    attempts.enter("unit", 0, 1)
    attempt = attempts.begin("unit", 2, "worker")
    assert attempt.given_up == {0: "WorkerCrashed"}
    assert attempts.worker_deaths() == 4


def test_a_row_that_hangs_is_known_by_the_time_it_took() -> None:
    now = 0.0
    attempts = Attempts(16, unit_timeout_s=100.0, clock=lambda: now)
    attempts.begin("unit", 8, "worker")
    now += 100
    attempt = attempts.begin("unit", 8, "worker")
    assert attempt.narrowing  # no second try of the whole unit
    deaths = 0
    while not attempt.given_up:
        start, stop = next(group for group in attempt.groups if group[0] <= 5 < group[1])
        attempts.enter("unit", start, stop)
        now += group_timeout_s(stop - start, 8, 100.0)
        deaths += 1
        attempt = attempts.begin("unit", 8, "worker")
    assert attempt.given_up == {5: "WorkerTimedOut"}
    assert (deaths, now) == (3, 100 + 50 + 25 + 25)


def test_a_worker_that_dies_between_rows_is_hopeless() -> None:
    attempts = Attempts(3)
    for _ in range(20):
        if "outside any row" in attempts.begin("unit", 64, "worker").hopeless:
            return
    raise AssertionError("never given up")


def test_a_worker_that_dies_while_it_is_built_is_not_built_for_ever() -> None:
    attempts = Attempts(3)
    assert [bool(attempts.build("a")) for _ in range(5)] == [False] * 4 + [True]
    for _ in range(9):
        assert not attempts.build("b")
        attempts.built("b")

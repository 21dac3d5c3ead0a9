"""A worker's time is either busy or idle, and is told once."""

import pytest

from pipelines.worker_time import WorkerTime


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_time_is_busy_within_a_unit_and_idle_outside() -> None:
    told: list[tuple[float, float]] = []
    clock = Clock()
    time = WorkerTime(lambda busy_s, idle_s: told.append((busy_s, idle_s)), clock)
    clock.now_s = 2
    with time.busy():
        clock.now_s = 5
    clock.now_s = 6
    time.tell()
    assert told == [(3, 3)]


def test_a_long_unit_is_told_in_parts() -> None:
    told: list[tuple[float, float]] = []
    clock = Clock()
    time = WorkerTime(lambda busy_s, idle_s: told.append((busy_s, idle_s)), clock)
    with time.busy():
        for clock.now_s in (5, 10):
            time.tell()
        clock.now_s = 11
    time.tell()
    assert told == [(5, 0), (5, 0), (1, 0)]


def test_a_unit_that_raises_ends_too() -> None:
    told: list[tuple[float, float]] = []
    clock = Clock()
    time = WorkerTime(lambda busy_s, idle_s: told.append((busy_s, idle_s)), clock)

    def fail() -> None:
        with time.busy():
            clock.now_s = 1
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fail()
    clock.now_s = 3
    time.tell()
    assert told == [(1, 2)]

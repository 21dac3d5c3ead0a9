"""Time slots: a host is asked at a bounded rate, whoever asks."""

from __future__ import annotations

import pytest

from pipelines.sources import pacing
from pipelines.sources.pacing import Pacer, shared_pacer


class Clock:
    """A clock that a test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_after_a_burst_requests_come_at_the_rate() -> None:
    clock = Clock()
    pacer = Pacer(2.0, 3, clock)
    assert pacer.reserve(["a"] * 5) == [0, 0, 0, 0.5, 1.0]
    clock.now_s += 0.25
    assert pacer.reserve(["a"]) == [1.25]


def test_hosts_do_not_wait_for_each_other() -> None:
    pacer = Pacer(1.0, 1, Clock())
    assert pacer.reserve(["a", "b", "a", "c", "b"]) == [0, 0, 1, 0, 1]


def test_a_pause_gives_the_burst_back_and_no_more() -> None:
    clock = Clock()
    pacer = Pacer(1.0, 2, clock)
    pacer.reserve(["a"] * 2)
    clock.now_s += 1000
    assert pacer.reserve(["a"] * 4) == [0, 0, 1, 2]


def test_the_rate_holds_over_any_time() -> None:
    clock = Clock()
    pacer = Pacer(10.0, 5, clock)
    starts = []
    for _ in range(200):
        starts += [clock.now_s + wait for wait in pacer.reserve(["a", "a"])]
        clock.now_s += 0.03
    starts.sort()
    for first in range(len(starts) - 1):
        within = [start for start in starts if starts[first] <= start < starts[first] + 1.0]
        assert len(within) <= 5 + 10


def test_hosts_that_are_done_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_PRUNE_HOSTS", 10)
    clock = Clock()
    pacer = Pacer(1.0, 1, clock)
    for number in range(1000):
        pacer.reserve([f"host-{number}"])
        clock.now_s += 0.5
    assert pacer.num_hosts() <= 11


def test_without_ray_a_process_has_one_pacer() -> None:
    first, second = shared_pacer(0.001, 1), shared_pacer(0.001, 1)
    assert first(["only.example"]) == [0]
    assert second(["only.example"])[0] > 900


@pytest.mark.ray
@pytest.mark.slow  # workers take seconds to start
def test_all_tasks_of_a_job_have_one_pacer(local_ray: None) -> None:
    import ray

    @ray.remote
    def reserve() -> float:
        return shared_pacer(0.001, 1)(["only.example"])[0]

    shared_pacer(0.001, 1)
    waits = sorted(ray.get([reserve.remote() for _ in range(3)]))
    assert [round(wait, -2) for wait in waits] == [0, 1000, 2000]

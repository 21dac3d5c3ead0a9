"""Requests to one host at a bounded rate, whoever makes them: by time slots, which no crash can leak."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray

_PRUNE_HOSTS = 65_536

Reserve = Callable[[Sequence[str]], list[float]]
"""Hosts -> seconds until a request to each may be made."""


class Pacer:
    """Hands out time slots by the generic cell rate algorithm (ITU-T I.371), one a request.

    A slot is a time to start at, not a right to hold: whoever dies with one only leaves it unused.

    Args:
        requests_per_second: To each host.
        burst: Requests to a host that may start at once after a pause.
        clock: Gives seconds.
    """

    def __init__(
        self, requests_per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = 1 / requests_per_second
        self._tolerance_s = (burst - 1) * self._interval_s
        self._clock = clock
        self._next: dict[str, float] = {}
        self._prune_at = _PRUNE_HOSTS

    def reserve(self, hosts: Sequence[str]) -> list[float]:
        """Take a slot for each of these requests; gives the seconds until it begins."""
        now, waits = self._clock(), []
        for host in hosts:
            arrival_s = max(self._next.get(host, now), now)
            waits.append(max(arrival_s - self._tolerance_s - now, 0.0))
            self._next[host] = arrival_s + self._interval_s
        if len(self._next) > self._prune_at:
            self._next = {host: at for host, at in self._next.items() if at > now}
            self._prune_at = max(2 * len(self._next), _PRUNE_HOSTS)
        return waits

    def num_hosts(self) -> int:
        """Hosts that are remembered: a table may name millions, each for a moment."""
        return len(self._next)


def shared_pacer(requests_per_second: float, burst: int) -> Reserve:
    """The pacer of the whole Ray job; without Ray, of this process."""
    if not ray.is_initialized():
        return _process_pacer(requests_per_second, burst).reserve
    actor = _job_pacer(ray.get_runtime_context().get_job_id(), requests_per_second, burst)
    return lambda hosts: ray.get(actor.reserve.remote(hosts))


@functools.cache
def _process_pacer(requests_per_second: float, burst: int) -> Pacer:
    return Pacer(requests_per_second, burst)


@functools.cache  # the driver's handle keeps the actor alive
def _job_pacer(job_id: str, requests_per_second: float, burst: int) -> Any:
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    name = f"pacer-{job_id}-{requests_per_second}-{burst}"
    return (
        ray.remote(Pacer).options(name=name, get_if_exists=True, **options).remote(requests_per_second, burst)
    )

"""Fetch images from the web, politely: at a bounded rate a host, and again only where that may help."""

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

import tenacity
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from pipelines.sources.pacing import Reserve, shared_pacer
from pipelines.sources.settings import FetchSettings
from pipelines.web import PORTS, PassingWebError, WebError, WebLimits, fetch

SHOWN_URL = 200
"""Characters of a URL that an error repeats."""
_BACKOFF_S, _MAX_BACKOFF_S = 0.5, 20.0


class HashError(WebError):
    """What was fetched is not what the table describes."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One image to fetch.

    Attributes:
        url: Where it is.
        digests: Hashes in hexadecimal that it must have, by algorithm.
    """

    url: str
    digests: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Fetcher:
    """Fetches the images of a unit.

    Attributes:
        limits: How far a fetch may go.
        settings: How it is done.
        reserve: Takes time slots.
        sleep: Waits so many seconds.
    """

    limits: WebLimits
    settings: FetchSettings
    reserve: Reserve
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def of(cls, limits: WebLimits, settings: FetchSettings) -> "Fetcher":
        """A fetcher that shares its rate with all others of the Ray job."""
        reserve = shared_pacer(settings.requests_per_second_per_host, settings.burst)
        return cls(limits=limits, settings=settings, reserve=reserve)

    def fetch(self, wanted: Sequence[Wanted]) -> Iterator[tuple[int, bytes | WebError]]:
        """The content of each URL by its index, or why there is none, as they come in.

        A host's requests are dealt out to a few lanes, each of which makes them one by one: so a slow host
        holds no more threads than it has lanes.
        """
        lanes = self._lanes([host_of(item.url) for item in wanted])
        stopped = threading.Event()

        def run(lane: list[tuple[int, float]]) -> list[tuple[int, bytes | WebError]]:
            results: list[tuple[int, bytes | WebError]] = []
            for number, at in lane:
                if stopped.is_set():
                    break
                self.sleep(max(at - time.monotonic(), 0.0))
                results.append((number, self._one(wanted[number])))
            return results

        with ThreadPoolExecutor(self.settings.threads) as pool:
            try:
                for future in as_completed([pool.submit(run, lane) for lane in lanes]):
                    yield from future.result()
            finally:
                stopped.set()

    def _lanes(self, hosts: Sequence[str]) -> list[list[tuple[int, float]]]:
        """Indices of requests, and when each may start, in the order in which they may."""
        began = time.monotonic()
        lanes: dict[tuple[str, int], list[tuple[int, float]]] = defaultdict(list)
        seen: dict[str, int] = defaultdict(int)
        for number, (host, wait_s) in enumerate(zip(hosts, self.reserve(hosts), strict=True)):
            lanes[host, seen[host] % self.settings.connections_per_host].append((number, began + wait_s))
            seen[host] += 1
        return sorted(lanes.values(), key=lambda lane: lane[0][1])

    def _one(self, item: Wanted) -> bytes | WebError:
        host = host_of(item.url)

        def again(state: tenacity.RetryCallState) -> None:
            self.sleep(self.reserve([host])[0])

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._may_pass),
            wait=self._wait_s,
            stop=tenacity.stop_after_attempt(self.settings.attempts),
            sleep=self.sleep,
            before=lambda state: again(state) if state.attempt_number > 1 else None,
            reraise=True,
        )
        try:
            data = attempts(fetch, item.url, self.limits, self.settings.manners)
            _check_hashes(data, item.digests)
        except WebError as error:
            shown = item.url if len(item.url) <= SHOWN_URL else f"{item.url[:SHOWN_URL]}…"
            return type(error)(f"{shown}: {error}")
        return data

    def _may_pass(self, error: BaseException) -> bool:
        asked_s = error.retry_after_s or 0.0 if isinstance(error, PassingWebError) else 0.0
        return isinstance(error, PassingWebError) and asked_s <= self.settings.max_retry_after_s

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        """Exponential backoff with full jitter, and no less than the server asks for."""
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after_s or 0.0 if isinstance(error, PassingWebError) else 0.0
        jitter = tenacity.wait_random_exponential(multiplier=_BACKOFF_S, max=_MAX_BACKOFF_S)
        return max(asked_s, jitter(state))


def is_url(path: str) -> bool:
    """Whether a path is to be fetched from the web."""
    scheme, colon, _ = path.partition("://")
    return bool(colon) and scheme.lower() in PORTS


def host_of(url: str) -> str:
    """The host that a URL names, lower case; "" where it names none."""
    try:
        return (parse_url(url).host or "").lower()
    except LocationParseError:
        return ""


def _check_hashes(data: bytes, digests: dict[str, str]) -> None:
    for algorithm, expected in sorted(digests.items()):
        if hashlib.new(algorithm, data, usedforsecurity=False).hexdigest() != expected:
            raise HashError(f"its {algorithm} is not the table's: it is another image by now")

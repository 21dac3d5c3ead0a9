"""Images from the web: asked for politely, and again only where that may help."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler

import pytest

from pipelines.sources import FetchSettings
from pipelines.sources.fetching import Fetcher, Wanted, host_of, is_url
from pipelines.web import PassingWebError, WebError, WebLimits, fetch
from tests.servers.web import Answer, answer, raw, redirect, serving

LIMITS = WebLimits(max_bytes=1000, timeout_s=5.0, allow_private=True)


class Slept(list[float]):
    """Seconds that somebody would have slept."""

    def __call__(self, seconds: float) -> None:
        if seconds:
            self.append(seconds)


def at_once(hosts: Sequence[str]) -> list[float]:
    return [0.0] * len(hosts)


def fetched(
    urls: Sequence[str], settings: FetchSettings | None = None, slept: Slept | None = None
) -> list[bytes | str]:
    """The content of the URLs, or why there is none, in their order."""
    fetcher = Fetcher(
        limits=LIMITS,
        settings=settings or FetchSettings(),
        reserve=at_once,
        sleep=Slept() if slept is None else slept,
    )
    found = dict(fetcher.fetch([Wanted(url=url) for url in urls]))
    assert set(found) == set(range(len(urls)))
    return [str(r) if isinstance(r, WebError) else r for _, r in sorted(found.items())]


def in_turn(*answers: Answer) -> Answer:
    """One answer after the other, the last for ever."""
    left = list(answers)

    def send(handler: BaseHTTPRequestHandler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return send


def test_each_url_has_a_result() -> None:
    answers = {f"/{n}": answer(b"%d" % n) for n in range(50)} | {"/none": answer(status=410)}
    with serving(answers) as server:
        urls = [f"{server.url}/{n}" for n in range(50)] + [f"{server.url}/none", "http://"]
        found = fetched(urls)
    assert found[:50] == [b"%d" % n for n in range(50)]
    assert found[50] == f"{server.url}/none: the server answers with status 410"
    assert found[51] == "http://: not a valid URL: it names no host"


@pytest.mark.parametrize("busy", [answer(status=429), answer(status=503), raw(b"")])
def test_a_server_in_passing_trouble_is_asked_again(busy: Answer) -> None:
    with serving({"/a": in_turn(busy, busy, answer(b"content"))}) as server:
        assert fetched([f"{server.url}/a"]) == [b"content"]
        assert len(server.asked) == 3


def test_it_is_not_asked_for_ever_and_the_message_is_that_of_one_request() -> None:
    with serving({"/a": answer(status=503)}) as server:
        found = fetched([f"{server.url}/a"], FetchSettings(attempts=2))
        assert found == [f"{server.url}/a: the server answers with status 503"]
        assert len(server.asked) == 2


def test_what_will_not_change_is_not_asked_again() -> None:
    with serving({"/a": answer(status=404)}) as server:
        fetched([f"{server.url}/a"])
        assert len(server.asked) == 1


def test_a_server_may_ask_for_patience_within_bounds() -> None:
    slept = Slept()
    patient = in_turn(answer(status=429, Retry_After="30"), answer(b"content"))
    too_long = answer(status=503, Retry_After="61")
    moved = redirect("/long")
    with serving({"/a": patient, "/long": too_long, "/moved": moved}) as server:
        assert fetched([f"{server.url}/a"], slept=slept) == [b"content"]
        assert max(slept) >= 30
        slept.clear()
        fetched([f"{server.url}/long"], slept=slept)
        fetched([f"{server.url}/moved"], slept=slept)
        assert len(server.asked) == 5
    assert not slept


@pytest.mark.parametrize(
    ("value", "shortest_s"),
    [
        ("Wed, 01 Jan 3000 00:00:00 GMT", 1e9),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("7", 7.0),
    ],
)
def test_patience_may_be_asked_for_until_a_date(value: str, shortest_s: float | None) -> None:
    with (
        serving({"/a": answer(status=429, Retry_After=value)}) as server,
        pytest.raises(PassingWebError) as e,
    ):
        fetch(f"{server.url}/a", LIMITS)
    assert str(e.value) == "the server answers with status 429"
    if shortest_s is None:
        assert e.value.retry_after_s is None
    else:
        assert e.value.retry_after_s is not None
        assert e.value.retry_after_s >= shortest_s


def test_every_request_takes_a_slot_of_its_host() -> None:
    asked: list[str] = []

    def reserve(hosts: Sequence[str]) -> list[float]:
        asked.extend(hosts)
        return [0.0] * len(hosts)

    with serving({"/a": in_turn(answer(status=503), answer(b"content"))}) as server:
        fetcher = Fetcher(limits=LIMITS, settings=FetchSettings(), reserve=reserve, sleep=Slept())
        list(fetcher.fetch([Wanted(url=f"{server.url}/a")]))
    assert asked == ["127.0.0.1"] * 2


def test_requests_wait_for_their_slots() -> None:
    slept = Slept()
    with serving({"/a": answer(b"content")}) as server:
        fetcher = Fetcher(
            limits=LIMITS,
            settings=FetchSettings(connections_per_host=1),
            reserve=lambda hosts: [10.0 * number for number in range(len(hosts))],
            sleep=slept,
        )
        list(fetcher.fetch([Wanted(url=f"{server.url}/a")] * 3))
    assert [round(seconds / 10) for seconds in slept] == [1, 2]


def test_a_host_has_few_connections_at_once() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def slow(handler: BaseHTTPRequestHandler) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        answer(b"content")(handler)

    with serving({"/a": slow}) as server:
        assert fetched([f"{server.url}/a"] * 20, FetchSettings(connections_per_host=3)) == [b"content"] * 20
    assert 1 < most <= 3


@pytest.mark.parametrize(
    ("tag", "is_refused"),
    [
        ("noai", True),
        ("NoImageAI, nofollow", True),
        ("meissonic: noai", True),
        ("otherbot: noai", False),
        ("nofollow", False),
    ],
)
def test_owners_who_forbid_such_use_are_heard(tag: str, is_refused: bool) -> None:
    with serving({"/a": answer(b"content", X_Robots_Tag=tag)}) as server:
        found = fetched([f"{server.url}/a"])[0]
        settings = FetchSettings(refused_directives=())
        assert fetched([f"{server.url}/a"], settings) == [b"content"]
    assert ("its server forbids such use: X-Robots-Tag" in str(found)) == is_refused


def test_requests_say_who_asks() -> None:
    settings = FetchSettings(user_agent="lab-crawler (mail@lab.example)")
    with serving({"/a": answer(b"content")}) as server:
        fetched([f"{server.url}/a"], settings)
        assert server.asked[0][1]["User-Agent"] == "lab-crawler (mail@lab.example)"
    with pytest.raises(ValueError, match="user_agent"):
        FetchSettings(user_agent="a\r\nHost: b")


def test_hosts_and_urls_are_told() -> None:
    assert [host_of(url) for url in ("http://A.example:80/x", "https://a.example", "http://[")] == [
        "a.example",
        "a.example",
        "",
    ]
    assert [is_url(path) for path in ("HTTP://a/b", "https://a", "s3://a/b", "a/http://b", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]

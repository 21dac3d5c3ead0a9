"""Objects of the web: fetched from where they may be, as large and as slow as they may be."""

from __future__ import annotations

import contextlib
import gzip
import socket
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import web
from pipelines.web import WebError, WebLimits, fetch, is_url
from tests.servers.web import answer, chunks, raw, redirect, serving, write_certificate

LIMITS = WebLimits(max_bytes=1000, timeout_s=5.0, max_redirects=3, allow_private=True)


def refused(url: str, limits: WebLimits = LIMITS) -> str:
    """Why a URL is not fetched."""
    with pytest.raises(WebError) as error:
        fetch(url, limits)
    return str(error.value)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """Addresses of names that exist in this test only, one list for each time that somebody looks them up."""
    answers: dict[str, list[list[str]]] = {}
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *args: object, **kwargs: object) -> object:
        if host not in answers:
            return real(host, port, *args, **kwargs)  # type: ignore[arg-type]
        found = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        kinds = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in found]
        return [(k, socket.SOCK_STREAM, 6, "", (a, port)) for k, a in zip(kinds, found, strict=True)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return answers


def test_content_is_fetched_with_or_without_an_announced_length() -> None:
    answers = {
        "/a.png?x=%20y": answer(b"content"),
        "/chunks": chunks(b"con", 2),
        "/close": raw(b"HTTP/1.0 200 OK\r\n\r\n", b"content"),
        "/empty": answer(b""),
    }
    with serving(answers) as server:
        assert fetch(f"{server.url}/a.png?x= y#part", LIMITS) == b"content"
        assert fetch(f"{server.url}/chunks", LIMITS) == b"concon"
        assert fetch(f"{server.url}/close", LIMITS) == b"content"
        assert fetch(f"{server.url}/empty", LIMITS) == b""
    path, headers = server.asked[0]
    assert path == "/a.png?x=%20y"
    assert (headers["Host"], headers["Accept-Encoding"]) == (server.url[len("http://") :], "identity")


def test_redirects_are_followed_up_to_the_limit() -> None:
    answers = {f"/{n}": redirect(f"{n + 1}") for n in range(4)}
    answers |= {"/4": answer(b"content"), "/loop": redirect("/loop")}
    with serving(answers) as server:
        assert fetch(f"{server.url}/1", LIMITS) == b"content"
        assert "more than 3 redirects" in refused(f"{server.url}/0")
        server.asked.clear()
        assert "more than 3 redirects" in refused(f"{server.url}/loop")
        assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "not an http:// or https:// URL"),
        ("ftp://example.com/a", "not an http:// or https:// URL"),
        ("//example.com/a", "not an http:// or https:// URL"),
        ("/etc/passwd", "not an http:// or https:// URL"),
        ("http://user:secret@example.com/a", "credentials"),
        ("http://user@example.com/a", "credentials"),
        ("http:///a", "names no host"),
        ("http://a b/", "not a valid URL"),
        ("http://a\r\nHost: b/", "not a valid URL"),
        ("http://example.com:99999/", "not a valid URL"),
        ("http://[::1/", "not a valid URL"),
        ("http://example.com/" + "a" * 9000, "more than 8192 characters"),
        ("http://" + "a" * 100 + ".example/", "cannot be looked up"),  # no name has such a part
    ],
)
def test_other_urls_are_refused(url: str, reason: str) -> None:
    assert reason in refused(url)
    assert "secret" not in refused(url)


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://a/b", "http://user:secret@a/b", "http://[b"]
)
def test_redirects_to_other_urls_are_refused(location: str) -> None:
    with serving({"/": redirect(location)}) as server:
        assert refused(server.url).startswith("redirected: ")


def test_a_host_without_an_address_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert refused("http://nowhere.example/") == "its host's name cannot be looked up"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "10.0.0.1",
    ],
)
def test_private_hosts_are_not_asked_unless_allowed(host: str) -> None:
    with serving({"/": answer(b"secret")}) as server:
        url = f"http://{host}:{server.server_port}/"
        assert "private address" in refused(url, LIMITS.model_copy(update={"allow_private": False}))
    assert server.asked == []


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1%25lo]", "0.0.0.0", "[::]", "224.0.0.1", "[64:ff9b::a9fe:a9fe]"]
)
def test_special_addresses_are_never_asked(host: str) -> None:
    assert "never asked" in refused(f"http://{host}/latest/meta-data")
    with serving({"/": redirect(f"http://{host}/latest/meta-data")}) as server:
        assert refused(server.url).startswith("redirected: its host has a link-local")


def test_a_name_counts_for_what_it_resolves_to(names: dict[str, list[list[str]]]) -> None:
    names["images.example"] = [["10.1.2.3"]]
    names["mixed.example"] = [["8.8.8.8", "127.0.0.1"]]
    names["metadata.example"] = [["169.254.169.254"]]
    public = LIMITS.model_copy(update={"allow_private": False})
    assert "private address" in refused("http://images.example/a.png", public)
    assert "private address" in refused("http://mixed.example/a.png", public)
    assert "never asked" in refused("http://metadata.example/a.png", LIMITS)


def test_a_name_that_changes_between_check_and_connection_gains_nothing(
    names: dict[str, list[list[str]]],
) -> None:
    with serving({"/": answer(b"content")}) as server:
        names["rebind.example"] = [["127.0.0.1"], ["169.254.169.254"]]
        assert fetch(f"http://rebind.example:{server.server_port}/", LIMITS) == b"content"
        assert len(names["rebind.example"]) == 1  # looked up once
        assert server.asked[0][1]["Host"] == f"rebind.example:{server.server_port}"
        assert "never asked" in refused(f"http://rebind.example:{server.server_port}/")


def test_the_next_address_is_tried_where_one_does_not_answer(names: dict[str, list[list[str]]]) -> None:
    with serving({"/": answer(b"content")}) as server:
        names["two.example"] = [["127.0.0.2", "127.0.0.1"]]  # the server listens on the second alone
        assert fetch(f"http://two.example:{server.server_port}/", LIMITS) == b"content"
    assert refused(server.url) == "its server cannot be reached"


def test_size_is_bounded_whatever_is_announced() -> None:
    endless = chunks(b"x" * 999, 1_000_000)
    answers = {
        "/exact": answer(b"x" * 1000),
        "/honest": answer(b"x" * 1001),
        "/endless": endless,
        "/close": raw(b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 1001),
        "/too little": answer(b"x" * 5000, Content_Length="7"),
        "/too much": answer(b"x" * 7, Content_Length="900", Connection="close"),
        "/far too much": answer(b"", Content_Length="900000000"),
    }
    answers = {path.replace(" ", "%20"): send for path, send in answers.items()}
    with serving(answers) as server:
        assert len(fetch(f"{server.url}/exact", LIMITS)) == 1000
        for path in ("honest", "endless", "close", "far too much"):
            assert refused(f"{server.url}/{path}") == "more than 1000 bytes, which is max_bytes"
        assert fetch(f"{server.url}/too little", LIMITS) == b"x" * 7
        server.answers["/too%20much"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n1234567")
        assert "breaks off" in refused(f"{server.url}/too much")


@pytest.mark.parametrize("path", ["/body", "/headers", "/close", "/silent", "/continue"])
def test_time_is_bounded_also_where_something_comes_now_and_then(path: str) -> None:
    answers = {
        "/body": chunks(b"x", 100, pause_s=0.05),
        "/headers": raw(b"HTTP/1.1 200 OK\r\n", *[b"a"] * 100, pause_s=0.05),
        "/close": raw(b"HTTP/1.0 200 OK\r\n\r\n", *[b"x"] * 100, pause_s=0.05),
        "/silent": raw(b"", pause_s=2.0),
        "/continue": raw(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 100, pause_s=0.05),
    }
    began = time.monotonic()
    with serving(answers) as server:
        reason = refused(f"{server.url}{path}", LIMITS.model_copy(update={"timeout_s": 0.3}))
    assert "not complete in time" in reason
    assert time.monotonic() - began < 1.5


def test_time_is_bounded_over_all_redirects_and_lookups(
    names: dict[str, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_redirect(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.15)
        redirect("/")(handler)

    quick = LIMITS.model_copy(update={"timeout_s": 0.3, "max_redirects": 20})
    with serving({"/": slow_redirect}) as server:
        assert "not complete in time" in refused(server.url, quick)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(1))
    assert "not complete in time" in refused("http://slow.example/", quick)


def test_encoded_content_is_refused_not_decoded() -> None:
    bomb = gzip.compress(bytes(10 << 20))
    with serving({"/": answer(bomb, Content_Encoding="gzip")}) as server:
        assert "encoded as 'gzip'" in refused(server.url, LIMITS.model_copy(update={"max_bytes": 1 << 20}))


def test_what_is_not_content_is_refused() -> None:
    answers = {
        "/missing": answer(b"no such page", status=404),
        "/part": answer(b"part", status=206),
        "/nowhere": answer(status=302),
        "/garbage": raw(b"\x00\xff garbage\r\n\r\n"),
        "/lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n1234"),
        "/headers": raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n"),
    }
    with serving(answers) as server:
        assert refused(f"{server.url}/missing") == "the server answers with status 404"
        assert refused(f"{server.url}/part") == "the server answers with status 206"
        assert refused(f"{server.url}/nowhere") == "the server answers with status 302"
        for path in ("garbage", "lengths", "headers"):
            assert "does not speak HTTP" in refused(f"{server.url}/{path}")


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with serving({"/": answer(b"content")}) as server:
        assert fetch(server.url, LIMITS) == b"content"


@settings(max_examples=60, deadline=None)
@given(
    head=st.sampled_from(
        [
            b"",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: ",
            b"HTTP/1.1 200 OK\r\nContent-Length: ",
        ]
    ),
    rest=st.binary(max_size=60),
)
def test_no_answer_raises_anything_else(head: bytes, rest: bytes) -> None:
    with serving({"/": raw(head + rest + b"\r\n\r\n")}) as server, contextlib.suppress(WebError):
        fetch(server.url, LIMITS.model_copy(update={"max_redirects": 1}))


def test_the_certificate_must_be_that_of_the_name(
    names: dict[str, list[list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names |= {"images.example": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]}
    certificate = write_certificate(tmp_path / "server.pem", ["images.example"])
    with serving({"/": answer(b"content")}, certificate) as server:
        url = f"https://images.example:{server.server_port}/"
        assert "certificate cannot be verified" in refused(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        web._tls.cache_clear()
        assert fetch(url, LIMITS) == b"content"
        assert server.asked[0][1]["Host"] == f"images.example:{server.server_port}"
        for host in ("other.example", "127.0.0.1"):
            assert "certificate cannot be verified" in refused(f"https://{host}:{server.server_port}/")
    web._tls.cache_clear()


def test_a_server_that_does_not_shake_hands_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # accepts, and says nothing
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/"
        assert "not complete in time" in refused(url, LIMITS.model_copy(update={"timeout_s": 0.2}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example/x", True),
        ("HTTP://a", True),
        ("s3://b/x", False),
        ("http", False),
        ("a/b.jpg", False),
    ],
)
def test_a_url_is_told_by_its_scheme(text: str, expected: bool) -> None:
    assert is_url(text) == expected

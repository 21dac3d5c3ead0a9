"""Fetch one object from the web for a table that somebody else wrote.

    data = fetch("https://images.example/cat.png", WebLimits(max_bytes=10 << 20))

Whoever writes the URLs decides where this machine connects to, so: a host's name is looked up once, what was
found is checked, and the connection goes to exactly that address, again after every redirect. Size and time
are bounded whatever the server does. Proxies set in the environment are not used: a proxy would look the name
up itself, out of reach of the check.
"""

import contextlib
import email.utils
import functools
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urljoin

from pydantic import Field, PositiveFloat, PositiveInt
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.response import HTTPResponse
from urllib3.util import Url, parse_url

from pipelines.addresses import reach
from pipelines.config import Config, Operational

PORTS = {"http": 80, "https": 443}
HEADER_TEXT = r"^[\x20-\x7e]+$"
"""What the value of a header may be; with line breaks it would be more than one."""
MAX_URL_CHARACTERS = 8192
"""RFC 9110 asks servers for 8000 at least; more is an attack or a mistake."""
REDIRECTS = (301, 302, 303, 307, 308)
PASSING_STATUSES = (408, 425, 429, 500, 502, 503, 504)
_CHUNK_BYTES = 1 << 16
_SHOWN = 40
_TOO_SLOW = "not complete in time; raise timeout_s where the server is only slow"


class WebError(Exception):
    """An object that is not fetched.

    Its message is the same in every run: it ends in a dead letter. So it holds no addresses, and of what was
    met on the way nothing that changes from one answer to the next.
    """


class PassingWebError(WebError):
    """An object that may be fetched later: its server is out of reach, busy or too slow.

    Attributes:
        retry_after_s: Seconds that the server asks to wait; None where it asks for nothing.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def is_url(text: str) -> bool:
    """Whether it is an http or https URL, as far as its scheme tells."""
    return text.partition("://")[0].lower() in PORTS and "://" in text


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How a fetch presents itself, and what it honours.

    Attributes:
        user_agent: For the User-Agent header.
        robots_name: The name by which an X-Robots-Tag header may address this program alone.
        refused_directives: Directives of X-Robots-Tag, lower case, that forbid use of what they come with.
    """

    user_agent: str = "meissonic"
    robots_name: str = "meissonic"
    refused_directives: frozenset[str] = frozenset()


PLAIN = Manners()
"""Of jobs whose rows name single images of their own users."""


class WebLimits(Config):
    """How far a fetch may go.

    Attributes:
        max_bytes: Of the object.
        timeout_s: Seconds for all of it: names, connections, redirects and content.
        max_redirects: Redirects to follow.
        allow_private: Whether hosts in private networks, and this machine itself, may be asked. Link-local
            addresses, with them the cloud's metadata service, are out of reach all the same. It is
            Operational: one URL is private in one place and public in another.
    """

    max_bytes: PositiveInt = 32 << 20
    timeout_s: Annotated[PositiveFloat, Operational()] = 20.0
    max_redirects: int = Field(default=5, ge=0, le=20)
    allow_private: Annotated[bool, Operational()] = False


def fetch(url: str, limits: WebLimits, manners: Manners = PLAIN) -> bytes:
    """The content of an http or https URL.

    Raises:
        PassingWebError: As below, for a reason that may pass.
        WebError: The URL or one it redirects to is not allowed, the server cannot be reached or does not
            answer with the content, or a limit is passed.
    """
    deadline = time.monotonic() + limits.timeout_s
    for redirects in range(limits.max_redirects + 1):
        try:
            return _get(_parsed(url), limits, manners, deadline)
        except _RedirectedError as redirect:
            url = _joined(url, redirect.location)
        except WebError as error:
            if redirects == 0:
                raise
            message = f"redirected: {error}"
            if isinstance(error, PassingWebError):
                raise PassingWebError(message, error.retry_after_s) from error
            raise WebError(message) from error
    raise WebError(f"more than {limits.max_redirects} redirects, which is max_redirects")


class _RedirectedError(Exception):
    """The content is elsewhere."""

    def __init__(self, location: str) -> None:
        self.location = location


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise WebError("redirected: not a valid URL") from error


def _parsed(url: str) -> Url:
    if len(url) > MAX_URL_CHARACTERS:
        raise WebError(f"a URL of more than {MAX_URL_CHARACTERS} characters")
    try:
        parsed = parse_url(url)
    except LocationParseError as error:
        raise WebError("not a valid URL") from error
    if parsed.scheme not in PORTS:
        raise WebError("not an http:// or https:// URL, and no other is fetched")
    if parsed.auth is not None:
        raise WebError("a URL with credentials; they would stand in the output")
    if not parsed.host:
        raise WebError("not a valid URL: it names no host")
    return parsed


def _get(url: Url, limits: WebLimits, manners: Manners, deadline: float) -> bytes:
    """The answer to one request.

    Raises:
        _RedirectedError: It names another URL.
        WebError: It is anything but content within the limits.
    """
    assert url.host  # `_parsed` saw to these
    assert url.netloc
    assert url.scheme
    host = url.host.strip("[]")
    with (
        contextlib.closing(_connected(host, url.port or PORTS[url.scheme], limits, deadline)) as plain,
        _ended_at(deadline, plain),
        _secured(plain, host) if url.scheme == "https" else contextlib.nullcontext(plain) as connected,
    ):
        connection = HTTPConnection(host, timeout=_left(deadline))
        connection.sock = connected
        headers = {
            "Host": url.netloc,
            "User-Agent": manners.user_agent,
            "Accept-Encoding": "identity",  # nothing to decode is nothing that grows when decoded
            "Connection": "close",
        }
        connection.request("GET", url.request_uri, headers=headers, preload_content=False)
        with contextlib.closing(connection.getresponse()) as response:
            return _content(response, limits, manners)


def _content(response: HTTPResponse, limits: WebLimits, manners: Manners) -> bytes:
    if response.status in REDIRECTS and (location := response.headers.get("Location")):
        raise _RedirectedError(location)
    if response.status in PASSING_STATUSES:
        raise PassingWebError(f"the server answers with status {response.status}", _retry_after_s(response))
    if response.status != http.client.OK:
        raise WebError(f"the server answers with status {response.status}")
    if refused := _robots_directives(response, manners.robots_name) & manners.refused_directives:
        raise WebError(f"its server forbids such use: X-Robots-Tag has '{min(refused)}'")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise WebError(f"encoded as {encoding[:_SHOWN]!r} although plain bytes were asked for")
    content = bytearray()
    while len(content) + (response.length_remaining or 0) <= limits.max_bytes:
        chunk = response.read(_CHUNK_BYTES, decode_content=False)
        if not chunk:
            return bytes(content)
        content += chunk
    raise WebError(f"more than {limits.max_bytes} bytes, which is max_bytes")


def _robots_directives(response: HTTPResponse, robots_name: str) -> set[str]:
    """Directives for all, or for this program by its name: `noai` or `NAME: noai, noindex`."""
    directives = set()
    for value in response.headers.getlist("X-Robots-Tag"):
        name, colon, rest = value.partition(":")
        if not colon or name.strip().lower() == robots_name.lower():
            directives |= {part.strip().lower() for part in (rest if colon else value).split(",")}
    return directives


def _retry_after_s(response: HTTPResponse) -> float | None:
    """Seconds by the header Retry-After, which has a number or a date."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal() and value.isascii():
        return float(value[:_SHOWN])
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _connected(host: str, port: int, limits: WebLimits, deadline: float) -> socket.socket:
    """A connection to an address of the host that was checked before."""
    found = _looked_up(host, port, deadline)
    reached = {reach(str(address[0])) for _, address in found}
    if "special" in reached:
        raise WebError("its host has a link-local, multicast or reserved address, which is never asked")
    if "private" in reached and not limits.allow_private:
        raise WebError("its host has a private address; allow_private lets it be asked")
    for position, (family, address) in enumerate(found):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(_left(deadline) / (len(found) - position))
            connection.connect(address)
        except OSError:
            connection.close()
        else:
            connection.settimeout(_left(deadline))
            return connection
    raise PassingWebError(_TOO_SLOW if time.monotonic() >= deadline else "its server cannot be reached")


def _looked_up(host: str, port: int, deadline: float) -> list[tuple[socket.AddressFamily, Any]]:
    """Family and socket address of all addresses of the host; the only time that its name is looked up."""
    answer: Future[list[tuple[socket.AddressFamily, Any]]] = Future()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answer.set_result([(family, address) for family, _, _, _, address in found])
        except Exception as error:
            answer.set_exception(error)

    # the system's resolver takes no time limit: a thread that is left behind ends when the resolver gives up
    threading.Thread(target=look_up, daemon=True).start()
    try:
        return answer.result(_left(deadline))
    except TimeoutError as error:
        raise PassingWebError(_TOO_SLOW) from error
    except (OSError, ValueError) as error:  # no such name; one that cannot be a name
        passing = isinstance(error, OSError) and error.errno == socket.EAI_AGAIN
        raise (PassingWebError if passing else WebError)("its host's name cannot be looked up") from error


@contextlib.contextmanager
def _ended_at(deadline: float, connection: socket.socket) -> Iterator[None]:
    """Shut the connection down at the deadline; errors of the network become WebError.

    A timeout of single reads would not end an answer that comes one byte at a time.
    """
    handle, ended = connection.dup(), threading.Event()

    def end() -> None:
        ended.set()
        with contextlib.suppress(OSError):  # the server has closed it already
            handle.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(_left(deadline), end)
    timer.daemon = True
    timer.start()
    try:
        yield
        if ended.is_set():
            raise TimeoutError("an answer without a length looks complete when it is cut off")
    except (OSError, http.client.HTTPException, HTTPError) as error:
        if ended.is_set() or time.monotonic() >= deadline:
            raise PassingWebError(_TOO_SLOW) from error
        if isinstance(error, ssl.SSLCertVerificationError):
            raise WebError("its server's certificate cannot be verified for its host") from error
        raise PassingWebError("its server breaks off, or does not speak HTTP") from error
    finally:
        timer.cancel()
        timer.join()
        handle.close()


@contextlib.contextmanager
def _secured(connection: socket.socket, host: str) -> Iterator[socket.socket]:
    """TLS over the connection; the certificate must be that of the host's name."""
    with _tls().wrap_socket(connection, server_hostname=host.rstrip(".")) as secured:
        yield secured


@functools.cache
def _tls() -> ssl.SSLContext:
    """Verifies certificates and names, with the system's authorities or those of SSL_CERT_FILE."""
    return ssl.create_default_context()


def _left(deadline: float) -> float:
    """Seconds until then; never zero, which would mean not to wait at all."""
    return max(deadline - time.monotonic(), 0.001)

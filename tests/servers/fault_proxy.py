"""An HTTP proxy in front of an S3 server that does what servers and networks do on bad days, when told to.

    with FaultProxy(upstream_url) as proxy:  # proxy.url is the endpoint for clients, with buckets in its path
        proxy.inject(Fault(action="slow_down", method="PUT", key="commits/", skip=2, times=3))
        ...
        assert proxy.hits == 3

All else passes unchanged, the Host header too, so that signatures made for `proxy.url` hold at the server.
"""

import contextlib
import re
import shutil
import socket
import struct
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, unquote_plus, urlsplit
from xml.etree import ElementTree

_BLOCK_BYTES = 1 << 16
_PASS = "pass"
_ACTIONS = {_PASS, "reset_before", "lose_answer", "truncate", "stall", "lag_listing", "ignore_conditions"}
_ERRORS = {
    "internal_error": (500, "InternalError"),
    "slow_down": (503, "SlowDown"),
    "denied": (403, "AccessDenied"),
    "expired": (400, "ExpiredToken"),  # 400 is Amazon's status for this one
    "skewed": (403, "RequestTimeTooSkewed"),
    "not_implemented": (501, "NotImplemented"),
}

ElementTree.register_namespace("", "http://s3.amazonaws.com/doc/2006-03-01/")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong, and for which requests.

    Attributes:
        action: One of these.
            `internal_error`, `slow_down`, `denied`, `expired`, `skewed`: S3's error; the server is not asked.
            `not_implemented`: this error, for conditional writes alone.
            `ignore_conditions`: conditional writes lose their condition. Clients sign it, so the server must
            be one that does not check signatures.
            `reset_before`: the connection is reset while the body is read; the server is not asked.
            `lose_answer`: the server does as it is asked, then the connection is reset without an answer.
            `truncate`: the connection ends after half of the answer's body.
            `stall`: no answer, until the proxy is closed.
            `lag_listing`: ListObjectsV2 omits keys written through the proxy since the fault was injected.
        method: The request's method; None is any.
        key: Regular expression searched for in the object's key; for `lag_listing`, in the keys to omit.
        query: A name in the request's query: "uploads", "uploadId", "list-type".
        skip: How many such requests are spared at first.
        times: How many are struck then; None is all.
    """

    action: str
    method: str | None = None
    key: str = ""
    query: str | None = None
    skip: int = 0
    times: int | None = None

    def __post_init__(self) -> None:
        if self.action not in _ACTIONS | _ERRORS.keys():
            raise ValueError(f"no action '{self.action}'; actions are {sorted(_ACTIONS | _ERRORS.keys())}")

    def matches(self, request: "_Handler") -> bool:
        """Whether this is the kind of request to spare or strike."""
        if self.method not in (None, request.command) or (self.query and self.query not in request.query):
            return False
        if self.action == "lag_listing":
            return request.command == "GET" and "list-type" in request.query
        conditional = request.command in ("PUT", "POST") and "If-None-Match" in request.headers
        if self.action in ("ignore_conditions", "not_implemented") and not conditional:
            return False
        return re.search(self.key, request.key) is not None


@dataclass(kw_only=True)
class _Injected:
    fault: Fault
    num_written: int  # objects written before it
    num_matches: int = 0


class FaultProxy(ThreadingHTTPServer):
    """The proxy; a context manager that serves from threads of this process.

    Attributes:
        url: Where it listens.
        requests: Method and key of every request seen, in order; the key is "" where a bucket is addressed.
        hits: How many requests a fault was applied to.
    """

    request_queue_size = 128
    daemon_threads = False  # so that server_close waits for them

    def __init__(self, upstream_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream_url).netloc
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests: list[tuple[str, str]] = []
        self.hits = 0
        self.written: list[tuple[str, str]] = []  # buckets and keys
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._injected: list[_Injected] = []
        self._connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,)).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        for connection in self._connections:  # wake the threads that wait for a next request
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def inject(self, fault: Fault) -> None:
        """Let `fault` happen from now on; where several could, the one injected first does."""
        with self._lock:
            self._injected.append(_Injected(fault=fault, num_written=len(self.written)))

    def clear(self) -> None:
        """Let nothing go wrong any more, and count anew."""
        with self._lock:
            self._injected.clear()
            self.hits = 0

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def judge(self, request: "_Handler") -> _Injected:
        """Count the request and say what to do with it."""
        with self._lock:
            self.requests.append((request.command, request.key))
            for injected in self._injected:
                fault = injected.fault
                if fault.matches(request):
                    injected.num_matches += 1
                    num_due = injected.num_matches - fault.skip
                    if num_due > 0 and (fault.times is None or num_due <= fault.times):
                        self.hits += 1
                        return injected
        return _Injected(fault=Fault(action=_PASS), num_written=0)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FaultProxy

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # the client left, or the server did: the client's connection ends
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        target = urlsplit(self.path)
        self.bucket, _, self.key = unquote(target.path).lstrip("/").partition("/")
        self.query = parse_qs(target.query, keep_blank_values=True)
        injected, body = self.server.judge(self), self._body()
        action = injected.fault.action
        if action == "reset_before":
            next(body, None)
            self._reset()
        elif action == "stall":
            deque(body, maxlen=0)
            self.server.closing.wait()
            self._reset()
        elif action in _ERRORS:
            deque(body, maxlen=0)
            status, code = _ERRORS[action]
            xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Injected.</Message></Error>"
            self._send(status, [("Content-Type", "application/xml")], xml.encode())
        else:
            self._forward(injected, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def _forward(self, injected: _Injected, body: Iterator[bytes]) -> None:
        action = injected.fault.action
        with contextlib.closing(HTTPConnection(self.server.upstream)) as upstream:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            condition = "if-none-match" if action == "ignore_conditions" else ""
            for name, value in _other_than({"expect", "connection", condition}, self.headers.items()):
                upstream.putheader(name, value)
            upstream.endheaders()
            for block in body:
                upstream.send(block)
            reply = upstream.getresponse()
            completes = (self.command, "uploadId" in self.query) in (("PUT", False), ("POST", True))
            if completes and reply.status == 200:
                self.server.written.append((self.bucket, self.key))
            headers = _other_than({"connection", "transfer-encoding", "content-length"}, reply.getheaders())
            size = reply.getheader("Content-Length")
            if action == "lose_answer":
                reply.read()
                self._reset()
            elif action == "lag_listing":
                written = set(self.server.written[injected.num_written :])
                hidden = {k for b, k in written if b == self.bucket and re.search(injected.fault.key, k)}
                self._send(reply.status, headers, _without(hidden, reply.read()))
            elif size is None:
                self._send(reply.status, headers, reply.read())
            else:
                self._send(reply.status, [*headers, ("Content-Length", size)])
                if action == "truncate":
                    self.wfile.write(reply.read(int(size) // 2))
                    self.close_connection = True
                else:
                    shutil.copyfileobj(reply, self.wfile, _BLOCK_BYTES)

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if body is not None and status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> Iterator[bytes]:
        """The request's body as it comes, with the sizes of its chunks where it is chunked."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int((line := self.rfile.readline()).split(b";")[0], 16):
                yield line + self.rfile.read(size + 2)
            while line.strip():  # the last chunk and trailers
                yield line
                line = self.rfile.readline()
            yield b"\r\n"
        left = int(self.headers.get("Content-Length", 0))
        while left:
            block = self.rfile.read(min(left, _BLOCK_BYTES))
            if not block:
                raise ConnectionResetError("the client left before its body ended")
            left -= len(block)
            yield block

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()  # or it keeps the socket open
        self.connection.close()
        self.close_connection = True


def _other_than(names: set[str], headers: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in names]


def _without(hidden: set[str], listing: bytes) -> bytes:
    root = ElementTree.fromstring(listing)
    decode = unquote_plus if root.findtext("{*}EncodingType") == "url" else str
    for entry in root.findall("{*}Contents"):
        if decode(entry.findtext("{*}Key", "")) in hidden:
            root.remove(entry)
    num_left = len(root.findall("{*}Contents")) + len(root.findall("{*}CommonPrefixes"))
    for num_keys in root.findall("{*}KeyCount"):
        num_keys.text = str(num_left)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)

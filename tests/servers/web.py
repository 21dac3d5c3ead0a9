"""A web server that answers as a test says, also as no honest server would.

with serving({"/a.png": answer(b"content"), "/": redirect("/a.png")}) as server:
fetch(f"{server.url}/a.png", limits)
"""

from __future__ import annotations

import contextlib
import datetime
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Answers each path as the test says; `asked` holds the requests' paths and headers."""

    daemon_threads = True

    def __init__(self, answers: dict[str, Answer], certificate: Path | None = None) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.server_port}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that turn away are what these tests are about


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        self.server.answers[self.path](self)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(answers: dict[str, Answer], certificate: Path | None = None) -> Iterator[Server]:
    with Server(answers, certificate) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def answer(content: bytes = b"", status: int = 200, **headers: str) -> Answer:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in ({"Content_Length": str(len(content))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return send


def redirect(location: str) -> Answer:
    return answer(status=302, Location=location)


def chunks(content: bytes, times: int, pause_s: float = 0.0) -> Answer:
    """A body without an announced length, piece by piece."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for _ in range(times):
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
            time.sleep(pause_s)
        handler.wfile.write(b"0\r\n\r\n")

    return send


def raw(*pieces: bytes, pause_s: float = 0.0) -> Answer:
    """These bytes in the place of an HTTP answer; then the connection is closed."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        for piece in pieces:
            handler.wfile.write(piece)
            time.sleep(pause_s)
        handler.close_connection = True

    return send


def write_certificate(path: Path, hosts: list[str]) -> Path:
    """Key and self-signed certificate of these names, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path

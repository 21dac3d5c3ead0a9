"""The command `view`: look at the rows and images of an output in a browser."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import socket
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path

import click

from jobs.command import command
from pipelines.errors import RefusalError

_TOKEN_BYTES = 24


@click.command("view")
@click.argument("output")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="0 takes one that is free.")
@click.option("--token", "wants_token", is_flag=True, help="Ask for a token on this machine, too.")
@click.option("--open/--no-open", "opens", default=False, show_default=True, help="Open the browser.")
@command
def view_command(output: str, host: str, port: int, wants_token: bool, opens: bool) -> None:
    """Look at the images and rows of OUTPUT in a browser: search, filter, sort, enlarge.

    OUTPUT is that of generate, score or curate; the job may still run. Ends with Ctrl-C.
    """
    import uvicorn

    from pipelines.viewing.guard import LOOPBACK, Access
    from pipelines.viewing.outputs import open_output
    from pipelines.viewing.rows import OutputRows
    from pipelines.viewing.server import viewer

    found = open_output(output)
    with tempfile.TemporaryDirectory(prefix="view-") as folder, _listening(host, port) as listener:
        rows = OutputRows(found, Path(folder))
        rows.refresh(_tell)
        token = secrets.token_urlsafe(_TOKEN_BYTES) if wants_token or not _is_loopback(host) else None
        hosts = LOOPBACK | {_in_url(host)} if token is None else None
        access = Access(token=token, hosts=hosts)
        url = _url(host, listener.getsockname()[1], token)
        click.echo(f"{url}\nCtrl-C ends it")
        if opens:
            threading.Timer(0.5, webbrowser.open, [url]).start()
        config = uvicorn.Config(
            viewer(rows, access),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again when all is closed
            uvicorn.Server(config).run(sockets=[listener])
        rows.index.close()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()  # who connects as soon as the URL is printed waits for the server
    except OSError as error:
        raise RefusalError(
            f"{host}:{port}: cannot listen there ({error}); choose another --host or --port"
        ) from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(host: str, port: int, token: str | None) -> str:
    """What to open; where it listens everywhere, by this machine's name."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104 - a comparison
    return f"http://{_in_url(name)}:{port}/" + (f"?token={token}" if token else "")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _tell(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\rreading shards: {done:,} of {total:,}", nl=done == total, err=True)

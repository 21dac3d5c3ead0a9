"""A Ceph gateway for as long as tests need it: ceph.sh in a temporary folder, on free ports."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

SCRIPT = Path(__file__).with_name("ceph.sh")
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 120


@contextlib.contextmanager
def running_ceph() -> Iterator[str]:
    """Start a gateway and yield its URL; stop it in order at the end, also where the start was interrupted.

    Raises:
        RuntimeError: It did not start; the message holds what the start printed.
    """
    with contextlib.ExitStack() as at_end:
        folder = at_end.enter_context(tempfile.TemporaryDirectory(prefix="ceph-"))
        log = at_end.enter_context(open(f"{folder}/start.log", "w+"))
        port, monitor_port = _free_ports(2)
        start = subprocess.Popen(
            [SCRIPT, "start", folder, str(port), str(monitor_port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the tests, which then stop the daemons in order
        )
        at_end.callback(_kill_group, start.pid)
        at_end.callback(subprocess.run, [SCRIPT, "stop", folder], check=True, timeout=_STOP_TIMEOUT_S)
        if start.wait(timeout=_START_TIMEOUT_S) != 0:
            log.seek(0)
            raise RuntimeError(f"{SCRIPT} start failed:\n{log.read()}")
        yield f"http://127.0.0.1:{port}"


def _free_ports(num_ports: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(num_ports)]
        return [listener.getsockname()[1] for listener in sockets]


def _kill_group(group: int) -> None:
    """Kill what an interrupted start has left of its processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)

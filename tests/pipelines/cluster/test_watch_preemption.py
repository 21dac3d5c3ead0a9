"""A node that AWS takes back tells Ray."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipelines.cluster import watch_preemption

NOTICE = '{"action": "terminate", "time": "2026-11-26T05:00:00Z"}'


class Metadata(BaseHTTPRequestHandler):
    """Metadata of an instance (IMDSv2): a notice at the third question, and a failure before it."""

    questions = 0

    def do_PUT(self) -> None:
        self.answer(200, "token")

    def do_GET(self) -> None:
        assert self.headers["X-aws-ec2-metadata-token"] == "token"
        assert self.path == "/latest/meta-data/spot/instance-action"
        type(self).questions += 1
        self.answer(*{1: (404, ""), 2: (500, "")}.get(self.questions, (200, NOTICE)))

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Metadata.questions = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_node_is_drained_once_there_is_a_notice(server: str, tmp_path: Path) -> None:
    ray, told = tmp_path / "ray", tmp_path / "told"
    ray.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {told}\n')
    ray.chmod(0o755)
    script = [
        sys.executable,
        watch_preemption.__file__,
        "--server",
        server,
        "--ray",
        str(ray),
        "--pause",
        "0.01",
    ]
    ended = subprocess.run(script, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert told.read_text().splitlines() == [
        "drain-node",
        "--reason",
        "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message",
        NOTICE,
        "--deadline-remaining-seconds",
        "120",
    ]
    assert Metadata.questions == 3
    assert "500" in ended.stderr

"""The command `view`: what it refuses, what it prints, and how it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from jobs.view import view_command
from tests.pipelines.made_generations import MadeGenerations
from tests.pipelines.toys import finish_inline, write_input


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(view_command, list(arguments))
    assert result.exit_code == 1
    return result.output


def test_wrong_folders_are_refused_with_the_remedy(tmp_path: Path) -> None:
    assert "neither run.json nor scores/run.json is in it; name the folder" in refusal(str(tmp_path))
    assert "neither run.json" in refusal(str(tmp_path / "nowhere"))
    finish_inline(str(tmp_path / "out"), write_input(tmp_path / "in"))
    assert "the output of 'square', whose rows cannot be viewed" in refusal(str(tmp_path / "out"))


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    MadeGenerations(str(tmp_path / "out"), ["a fox"]).commit()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}: cannot listen there" in refusal(str(tmp_path / "out"), "--port", port)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "pattern"),
    [
        ("127.0.0.1", r"http://127\.0\.0\.1:\d+/"),
        ("127.0.0.2", r"http://127\.0\.0\.2:\d+/"),
        ("0.0.0.0", r"http://[^/]+:\d+/\?token=[\w-]{32}"),
    ],
)
def test_it_prints_its_url_serves_and_ends_with_ctrl_c(tmp_path: Path, host: str, pattern: str) -> None:
    MadeGenerations(str(tmp_path / "out")).commit()
    command = [sys.executable, "-m", "jobs", "view", str(tmp_path / "out"), "--host", host]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert re.fullmatch(pattern, url)
        local = re.sub(r"//[^:/]+:", "//127.0.0.1:", url) if host == "0.0.0.0" else url
        with requests.Session() as session:
            assert session.get(local, timeout=30).status_code == 200
            assert "a fox 0" in session.get(local.partition("?")[0], timeout=30).text
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert "Traceback" not in process.stdout.read()
    finally:
        process.kill()
        process.wait()

"""A job whose process dies is run again; one that says what is wrong is not."""

import sys
from pathlib import Path

import pytest

from jobs.supervise import supervise

DIES_TWICE = """
import os, pathlib, signal, sys
runs = pathlib.Path(sys.argv[1])
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
if len(runs.read_text()) < 3:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_a_driver_that_is_killed_runs_again(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert supervise([sys.executable, "-c", DIES_TWICE, str(runs)], retries=5, pause_s=0) == 0
    assert runs.read_text() == "xxx"
    assert "was ended by signal 9; runs again, 5 more times at most" in capfd.readouterr().err


def test_not_more_often_than_allowed(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert supervise([sys.executable, "-c", DIES_TWICE, str(runs)], retries=1, pause_s=0) == 137
    assert runs.read_text() == "xx"
    assert "no retries are left" in capfd.readouterr().err


def test_a_fault_of_the_cluster_is_tried_again(runs: Path) -> None:
    script = f"open({str(runs)!r}, 'a').write('x'); raise SystemExit(75)"
    assert supervise([sys.executable, "-c", script], retries=2, pause_s=0) == 75
    assert runs.read_text() == "xxx"


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_an_end_that_means_something_is_the_end(runs: Path, code: int) -> None:
    script = f"open({str(runs)!r}, 'a').write('x'); raise SystemExit({code})"
    assert supervise([sys.executable, "-c", script], retries=5, pause_s=0) == code
    assert runs.read_text() == "x"

"""A job may be killed at any instant and started again: nothing is lost, twice, or computed again."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipelines.units import run_units
from pipelines.verify import verify
from tests.pipelines.toys import Square, finish_inline, square_job, square_ledger, write_input

pytestmark = pytest.mark.ray
ROWS, UNITS = 120, 24


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write_input(tmp_path / "in", rows=ROWS, negative=(3, 77))


def _start(output: Path, source: str, log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.pipelines.driver", str(output), source, str(log), "0.2"]
    with (output.parent / "driver.txt").open("ab") as text:
        return subprocess.Popen(command, start_new_session=True, stdout=text, stderr=text)


def _committed(output: Path) -> set[str]:
    return {file.stem for file in (output / "commits").glob("*.json")}


def _wait_for_commits(output: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(_committed(output)) < count:
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.02)


def _check_untouched(output: Path, source: str, tmp_path: Path) -> None:
    """The folder is as if nothing had happened."""
    assert verify(str(output)).problems == []
    undisturbed = finish_inline(str(tmp_path / "undisturbed"), source)
    assert (output / "manifest.json").read_bytes() == undisturbed.storage.read("manifest.json")


@pytest.mark.usefixtures("local_ray")
def test_an_interrupted_job_stops_at_once_and_goes_on_later(source: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    job, ledger = square_job(source, Square, pause_s=0.2), square_ledger(str(output), source)

    def press_ctrl_c() -> None:
        _wait_for_commits(output, 3)
        os.kill(os.getpid(), signal.SIGINT)

    user = threading.Thread(target=press_ctrl_c)
    user.start()
    with pytest.raises(KeyboardInterrupt):
        run_units(job, ledger)
    user.join()
    time.sleep(1.0)
    done = _committed(output)
    time.sleep(1.0)
    assert _committed(output) == done
    assert len(done) < UNITS
    assert run_units(job, ledger).units_run == UNITS - len(done)
    _check_untouched(output, source, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_job_killed_again_and_again_at_random(source: str, tmp_path: Path) -> None:
    output, log = tmp_path / "out", tmp_path / "log"
    moments = random.Random(7)
    for number in range(4):
        driver = _start(output, source, log)
        try:
            driver.wait(moments.uniform(4.0, 16.0))
        except subprocess.TimeoutExpired:
            (os.killpg if number % 2 else os.kill)(driver.pid, signal.SIGKILL)
        driver.wait(60)
        time.sleep(1.0)
    assert _start(output, source, log).wait(200) == 0
    _check_untouched(output, source, tmp_path)

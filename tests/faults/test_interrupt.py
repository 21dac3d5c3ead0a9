"""Ctrl-C stops a job at once; what it committed stays."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.units import run_units
from pipelines.verify import verify
from tests.pipelines.toys import Square, finish_inline, square_job, square_ledger, write_input

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]
ROWS, UNITS = 120, 24


def committed(output: Path) -> set[str]:
    return {file.stem for file in (output / "commits").glob("*.json")}


def wait_for_commits(output: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(committed(output)) < count:
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.02)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """A background shell starts its children with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.reliability
@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupted_job_stops_at_once_and_goes_on_later(tmp_path: Path) -> None:
    output, source = tmp_path / "out", write_input(tmp_path / "in", rows=ROWS, negative=(3, 77))
    job, ledger = square_job(source, Square, pause_s=0.2), square_ledger(str(output), source)

    def press_ctrl_c() -> None:
        wait_for_commits(output, 3)
        os.kill(os.getpid(), signal.SIGINT)

    user = threading.Thread(target=press_ctrl_c)
    user.start()
    with pytest.raises(KeyboardInterrupt):
        run_units(job, ledger)
    user.join()
    time.sleep(1.0)
    done = committed(output)
    time.sleep(1.0)
    assert committed(output) == done
    assert len(done) < UNITS
    assert run_units(job, ledger).units_run == UNITS - len(done)
    assert verify(str(output)).problems == []
    undisturbed = finish_inline(str(tmp_path / "undisturbed"), source)
    assert (output / "manifest.json").read_bytes() == undisturbed.storage.read("manifest.json")

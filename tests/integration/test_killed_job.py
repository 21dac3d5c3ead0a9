"""The real job as a process that is killed and started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.verify import verify

KILLS = 10

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1500)]


def start(prompts: Path, output: Path) -> subprocess.Popen[str]:
    settings = [
        f"prompts={prompts}",
        f"output={output}",
        "model=tests/assets/golden/tiny",
        "sampler.num_steps=4",
        "width=64",
        "height=64",
        "unit_rows=2",
        "batch_size=2",
        "resources.num_actors=1",
    ]
    command = [sys.executable, "-m", "jobs", "generate", "--config", "jobs/configs/generate.yaml"]
    return subprocess.Popen(
        [*command, *(part for setting in settings for part in ("--set", setting))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # a background shell starts its children with Ctrl-C ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"prompt": [f"prompt {i}" for i in range(400)]}), tmp_path / "prompts.parquet")
    return tmp_path / "prompts.parquet"


def test_a_job_killed_ten_times_ends_with_the_bytes_of_an_undisturbed_one(
    prompts: Path, tmp_path: Path
) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    output, _ = (first := start(prompts, undisturbed)).communicate()
    assert first.returncode == 0, output

    moments = random.Random(0)
    killed_while_committing = 0
    for _ in range(KILLS):
        job = start(prompts, disturbed)
        before = num_commits(disturbed)
        wait_until_it_commits(job, disturbed, before)
        time.sleep(moments.random())
        if job.poll() is None:
            killed_while_committing += 1
            os.killpg(job.pid, signal.SIGKILL)
        job.communicate()
    assert killed_while_committing >= KILLS // 2
    output, _ = (last := start(prompts, disturbed)).communicate()
    assert last.returncode == 0, output
    assert "400 of 400 prompts done, 0 failed" in output

    assert (disturbed / "manifest.json").read_bytes() == (undisturbed / "manifest.json").read_bytes()
    assert verify(str(disturbed)).problems == []


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(prompts: Path, tmp_path: Path) -> None:
    job = start(prompts, tmp_path / "out")
    wait_until_it_commits(job, tmp_path / "out", 0)
    job.send_signal(signal.SIGINT)
    output, _ = job.communicate(timeout=120)
    assert job.returncode == 130, output
    assert "Run the same command again to go on" in output
    assert "Traceback" not in output


def num_commits(output: Path) -> int:
    return sum(1 for _ in (output / "commits").glob("*.json"))


def wait_until_it_commits(job: subprocess.Popen[str], output: Path, before: int) -> None:
    """Wait until the job has committed units of its own, or has ended."""
    while job.poll() is None and num_commits(output) == before:
        time.sleep(0.05)

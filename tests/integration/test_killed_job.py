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

from pipelines.storage import open_storage
from pipelines.verify import verify

NUM_PROMPTS = 40

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1500)]


def start(prompts: Path, output: str) -> subprocess.Popen[str]:
    settings = [
        f"prompts={prompts}",
        f"output={output}",
        "model=tests/assets/golden/tiny",
        "sampler.num_steps=2",
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
    pq.write_table(
        pa.table({"prompt": [f"prompt {i}" for i in range(NUM_PROMPTS)]}), tmp_path / "prompts.parquet"
    )
    return tmp_path / "prompts.parquet"


@pytest.mark.parametrize(
    ("place", "num_kills"),
    [
        pytest.param("folder", 3, marks=pytest.mark.reliability),
        pytest.param("s3", 1, marks=[pytest.mark.s3, pytest.mark.slow]),
    ],
)
def test_a_job_killed_again_and_again_ends_with_the_bytes_of_an_undisturbed_one(
    place: str, num_kills: int, prompts: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = str(tmp_path)
    if place == "s3":
        request.getfixturevalue("s3_server")
        root = f"s3://bucket/{tmp_path.name}"
    undisturbed, disturbed = f"{root}/undisturbed", f"{root}/disturbed"
    output, _ = (first := start(prompts, undisturbed)).communicate()
    assert first.returncode == 0, output

    moments = random.Random(0)
    killed_while_running = 0
    for _ in range(num_kills):
        job = start(prompts, disturbed)
        wait_until_it_commits(job, disturbed, num_commits(disturbed))
        time.sleep(moments.random())
        if job.poll() is None:
            killed_while_running += 1
            os.killpg(job.pid, signal.SIGKILL)
        job.communicate()
    assert killed_while_running >= num_kills // 2
    output, _ = (last := start(prompts, disturbed)).communicate()
    assert last.returncode == 0, output
    assert f"{NUM_PROMPTS} of {NUM_PROMPTS} prompts done, 0 failed" in output

    manifests = [open_storage(folder).read("manifest.json") for folder in (undisturbed, disturbed)]
    assert manifests[0] == manifests[1]
    assert verify(disturbed).problems == []


@pytest.mark.reliability
def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(prompts: Path, tmp_path: Path) -> None:
    job = start(prompts, str(tmp_path / "out"))
    wait_until_it_commits(job, str(tmp_path / "out"), 0)
    job.send_signal(signal.SIGINT)
    output, _ = job.communicate(timeout=120)
    assert job.returncode == 130, output
    assert "Run the same command again to go on" in output
    assert "Traceback" not in output


def num_commits(output: str) -> int:
    return sum(1 for _ in open_storage(output).list("commits/"))


def wait_until_it_commits(job: subprocess.Popen[str], output: str, before: int) -> None:
    """Wait until the job has committed units of its own, or has ended."""
    while job.poll() is None and num_commits(output) == before:
        time.sleep(0.05)

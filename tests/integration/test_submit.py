"""Jobs on a cluster, through its HTTP address: submitted, followed, stopped, killed, submitted again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from examples.shapes.images import ImageSet, write_images
from examples.shapes.prompts import choose_scenes, prompt_table
from pipelines.code_version import code_version
from pipelines.storage import open_storage
from pipelines.verify import verify
from tests.servers.ray_head import RayHead, running_head

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

TOKEN = "a-token-of-the-tests-that-is-long-enough"


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with running_head() as head:
        yield head


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    pq.write_table(
        prompt_table(choose_scenes("test", 24, two_object_share=0.5, seed=0)), tmp_path / "prompts.parquet"
    )
    return str(tmp_path / "prompts.parquet")


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | env, timeout=400)


def submission(address: str, prompts: str, output: Path, *more: str) -> list[str]:
    """A generation of 24 images in units of two."""
    config = [
        "--config",
        "jobs/configs/demo.yaml",
        "--set",
        f"prompts={prompts}",
        "--set",
        f"output={output}",
    ]
    config += ["--set", "unit_rows=2", "--set", "batch_size=2", "--set", "resources.num_actors=1"]
    return ["submit", "generate", *config, "--address", address, "--python", sys.executable, *more]


def wait_for_commits(output: Path, count: int) -> dict[str, bytes]:
    """The first records of a run, by name."""
    end = time.monotonic() + 200
    while time.monotonic() < end:
        records = [path for path in output.glob("commits/*.json") if not path.name.startswith(".")]
        if len(records) >= count:
            return {path.name: path.read_bytes() for path in records}
        time.sleep(0.2)
    raise AssertionError(f"{output}: no {count} units in time")


def jobs_of(address: str, output: Path) -> list[dict[str, str]]:
    listed = json.loads(run("list", "--json", "--address", address).stdout)
    return [job for job in listed if job["output"] == str(output)]


def assert_whole(output: Path, earlier: dict[str, bytes] | None = None) -> None:
    """All 24 images are there, each once; the records of earlier runs are as they were."""
    report = verify(str(output))
    assert not report.problems
    assert sum(part.num_rows for part in map(pq.read_metadata, output.glob("data/*.parquet"))) == 24
    for name, record in (earlier or {}).items():
        assert (output / "commits" / name).read_bytes() == record


def test_a_job_is_followed_to_its_end(head: RayHead, prompts: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = run(*submission(head.address, prompts, output))
    assert first.returncode == 0, first.stdout + first.stderr
    assert "24 of 24 prompts done, 0 failed, 24 images" in first.stdout
    assert_whole(output)
    spec = json.loads(open_storage(str(output)).read("run.json"))
    assert spec["code_version"].removesuffix("+changes") == code_version().removesuffix("+changes")


@pytest.mark.reliability
def test_a_finished_job_submitted_again_has_nothing_to_do(
    head: RayHead, prompts: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert run(*submission(head.address, prompts, output)).returncode == 0
    second = run(*submission(head.address, prompts, output))
    assert second.returncode == 0
    assert "0 images in" in second.stdout
    assert "0 of 12 units" in second.stdout
    (one, two) = jobs_of(head.address, output)
    assert one["id"].removesuffix("-1") == two["id"].removesuffix("-2")
    assert [one["status"], two["status"]] == ["succeeded", "succeeded"]
    assert run("logs", one["id"], "--address", head.address).stdout.endswith(
        f"manifest: {output}/manifest.json\nreport: {output}/report.html\n"
    )


@pytest.mark.reliability
def test_a_collection_is_curated_and_goes_on_after_a_stop(head: RayHead, tmp_path: Path) -> None:
    write_images(tmp_path / "raw", ImageSet(num_images=60, two_object_share=0.5, num_copies=5))
    settings = [f"input={tmp_path / 'raw'}", f"output={tmp_path / 'out'}", "score.unit_rows=4"]
    command = [
        "submit",
        "curate",
        "--config",
        "examples/shapes/curate_training.yaml",
        "--address",
        head.address,
    ]
    command += ["--python", sys.executable, *(part for text in settings for part in ("--set", text))]
    assert run(*command, "--detach").returncode == 0
    earlier = wait_for_commits(tmp_path / "out" / "scores", 3)
    (job,) = jobs_of(head.address, tmp_path / "out")
    run("stop", job["id"], "--address", head.address)
    last = run(*command)
    assert last.returncode == 0, last.stdout + last.stderr
    assert "60 of 60 images done" in last.stdout  # the export: five copies of 65 are left out
    for part in ("scores", "datasets/default"):
        assert not verify(str(tmp_path / "out" / part)).problems
    for name, record in earlier.items():
        assert (tmp_path / "out" / "scores" / "commits" / name).read_bytes() == record


@pytest.mark.reliability
def test_a_running_job_is_not_submitted_twice_and_once_stopped_goes_on(
    head: RayHead, prompts: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    whole = submission(head.address, prompts, output, "--set", "sampler.num_steps=300")  # some seconds a unit
    detached = run(*whole, "--detach")
    assert detached.returncode == 0, detached.stderr
    again = run(*whole, "--detach")
    assert "is on the cluster already" in again.stderr
    other = run(*whole, "--detach", "--set", "batch_size=1")
    assert other.returncode == 1
    assert "with another command, settings or code" in other.stderr

    earlier = wait_for_commits(output, 2)
    (job,) = jobs_of(head.address, output)
    assert "stopped" in run("stop", job["id"], "--address", head.address).stdout
    assert [job["status"] for job in jobs_of(head.address, output)] == ["stopped"]
    assert run("logs", "--follow", job["id"], "--address", head.address).returncode == 1
    assert not (output / "manifest.json").exists()

    last = run(*whole)
    assert last.returncode == 0, last.stdout + last.stderr
    assert_whole(output, earlier)


@pytest.mark.reliability
def test_a_job_that_is_refused_ends_with_its_message_and_is_not_tried_again(
    head: RayHead, prompts: str, tmp_path: Path
) -> None:
    refused = run(*submission(head.address, str(tmp_path / "missing.parquet"), tmp_path / "out"))
    assert refused.returncode == 1
    assert "missing.parquet" in refused.stdout
    assert "Traceback" not in refused.stdout + refused.stderr
    assert "runs again" not in refused.stdout


@pytest.mark.reliability
def test_the_doctor_examines_the_cluster(head: RayHead, prompts: str, tmp_path: Path) -> None:
    well = run(*submission(head.address, prompts, tmp_path / "out", "--doctor"))
    assert well.returncode == 0, well.stdout + well.stderr
    assert well.stdout.splitlines()[-1] == "the job will run"
    ill = run(
        *submission(head.address, prompts, tmp_path / "out", "--doctor", "--set", "resources.num_actors=99")
    )
    assert ill.returncode == 1
    assert "room for" in ill.stdout
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.reliability
def test_a_head_that_dies_costs_only_what_was_in_flight(prompts: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with running_head() as head:
        followed = subprocess.Popen(
            [sys.executable, "-m", "jobs", *submission(head.address, prompts, output)],
            stdout=subprocess.DEVNULL,
        )
        earlier = wait_for_commits(output, 2)
        head.kill()
        followed.kill()
        followed.wait()
    with running_head() as head:
        again = run(*submission(head.address, prompts, output))
        assert again.returncode == 0, again.stdout + again.stderr
        assert jobs_of(head.address, output)[0]["id"].endswith("-1")
    assert_whole(output, earlier)


@pytest.mark.reliability
def test_a_cluster_with_a_token_is_closed_without_it(tmp_path: Path) -> None:
    with running_head(env={"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}) as head:
        listing = ["list", "--address", head.address]
        none = run(*listing)
        wrong = run(*listing, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=f"{TOKEN}-not")
        known = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
        right = run(*listing, **known)
        nothing = submission(head.address, str(tmp_path / "missing.parquet"), tmp_path / "out")
        submitted = run(*nothing, **known)
    for refused in (none, wrong):
        assert refused.returncode == 1
        assert "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert right.returncode == 0, right.stderr
    assert submitted.returncode == 1
    assert "missing.parquet" in submitted.stdout  # its log was followed

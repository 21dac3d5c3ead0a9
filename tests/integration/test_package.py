"""The job `package` as a user runs it: on what `generate` made, killed, and up to the hub."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import load_config
from pipelines.generate import open_job
from pipelines.generation_config import GenerateConfig
from pipelines.packaging import PackageConfig, plan_packaging
from pipelines.verify import verify
from tests.pipelines.made_generations import png
from tests.pipelines.packaging.fake_hub import NAME, fake_hub
from tests.pipelines.packaging.made_sets import LOSER, data_of, package, write_set

pytestmark = [pytest.mark.ray, pytest.mark.reliability]

COUNT = 60


def start(source: str, output: Path, *changes: str, **environment: str) -> subprocess.Popen[str]:
    settings = [f"input={source}", f"output={output}", *changes]
    command = [sys.executable, "-m", "jobs", "package", "--config", "jobs/configs/package.yaml"]
    return subprocess.Popen(
        [*command, *(part for setting in settings for part in ("--set", setting))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | environment,
    )


def num_commits(output: Path) -> int:
    return len(list((output / "commits").glob("*.json")))


def test_a_killed_job_goes_on_and_ends_with_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    source = write_set(tmp_path / "run", "webdataset", count=COUNT)
    changes = ("shard_rows=1", "format=webdataset")
    package(source, tmp_path / "undisturbed", *changes)
    job = start(source, tmp_path / "packed", *changes)
    while job.poll() is None and not num_commits(tmp_path / "packed"):
        time.sleep(0.005)
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    assert 0 < num_commits(tmp_path / "packed") < COUNT - 1
    output, _ = (again := start(source, tmp_path / "packed", *changes)).communicate()
    assert again.returncode == 0, output
    assert "left out 1 rows without an image and 0 by `where`" in output
    assert f"{COUNT - 1} of {COUNT - 1} images done, 0 failed" in output
    assert data_of(tmp_path / "packed") == data_of(tmp_path / "undisturbed")
    assert verify(str(tmp_path / "packed")).problems == []


def test_the_command_uploads_what_it_has_packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_set(tmp_path / "run", "files")
    with fake_hub(monkeypatch) as hub:
        upload = (f"upload=hf://datasets/{NAME}", "card.license=cc0-1.0")
        missing = {"HF_TOKEN": "", "HF_HOME": str(tmp_path / "home")}
        output, _ = (refused := start(source, tmp_path / "packed", *upload, **missing)).communicate()
        assert refused.returncode == 1, output
        assert "no credentials for the hub; set HF_TOKEN" in output
        assert not (tmp_path / "packed").exists()
        environment = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
        output, _ = (job := start(source, tmp_path / "packed", *upload, **environment)).communicate()
        assert job.returncode == 0, output
        assert f"uploaded to {hub.url}/datasets/{NAME}/tree/main" in output
    assert hub.private
    assert b"license: cc0-1.0" in hub.files["README.md"]
    rows = pq.read_table(pa.BufferReader(hub.files["data/train-00000-of-00001.parquet"]))
    assert [row["image"]["bytes"] for row in rows.to_pylist()] == [png(n) for n in range(10) if n != LOSER]


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("images", ["parquet", "webdataset", "files"])
def test_what_generate_makes_is_packaged(images: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": ["one", "two", "three"]}), tmp_path / "prompts.parquet")
    places = [f"prompts={tmp_path / 'prompts.parquet'}", f"output={tmp_path / 'run'}", f"images={images}"]
    model = ["model=tests/assets/golden/tiny", "sampler.num_steps=2", "width=64", "height=64"]
    workers = ["resources.num_gpus=0", "resources.num_actors=1", "num_images=2", "unit_rows=2"]
    open_job(load_config(GenerateConfig, None, [*places, *model, *workers])).run()
    changes = [f"input={tmp_path / 'run'}", f"output={tmp_path / 'packed'}", "where=sample_index = 0"]
    summary = plan_packaging(load_config(PackageConfig, None, changes)).open().run()
    assert (summary.rows_out, summary.rows_failed) == (3, 0)
    assert verify(summary.output).problems == []
    rows = pq.read_table(tmp_path / "packed" / "data" / "train-00000-of-00001.parquet")
    assert rows["prompt"].to_pylist() == ["one", "two", "three"]
    assert "| that the condition leaves out | 3 |" in (tmp_path / "packed" / "README.md").read_text()

"""The command line as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from jobs import __main__ as command_line
from pipelines.config import load_config
from pipelines.generation_config import GenerateConfig
from tests.pipelines.toys import finish_inline, write_input

CONFIG = "jobs/configs/generate.yaml"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> object:
    """Run a command without starting a Ray of its own: what is tested here is refused before one is used."""
    monkeypatch.setattr(command_line, "connect", lambda: None)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(command_line.main, list(arguments))

    return run


def prompt_file(folder: Path, **columns: list[object]) -> str:
    pq.write_table(pa.table(columns), folder / "p.parquet")
    return f"prompts={folder / 'p.parquet'}"


def test_help_lists_the_jobs(call) -> None:  # type: ignore[no-untyped-def]
    shown = call("--help").output
    for name in ("generate", "retry-failed", "verify", "gc", "status", "plan"):
        assert name in shown


@pytest.mark.parametrize("name", ["generate", "demo"])
def test_configs_of_the_project_are_valid(name: str) -> None:
    config = load_config(GenerateConfig, f"jobs/configs/{name}.yaml", ["prompts=p", "output=o"])
    assert config.model == "examples/shapes/model"
    assert config.resources.num_gpus == "auto"


def test_missing_settings_are_named_with_their_remedy(call) -> None:  # type: ignore[no-untyped-def]
    result = call("generate", "--config", CONFIG)
    assert result.exit_code == 1
    assert "prompts: required; set it in the file or with --set prompts=VALUE" in result.output
    assert "output: required" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sampler.num_step=3", "did you mean 'num_steps'?"),
        ("sampler.num_steps=0", "sampler.num_steps = 0: Input should be greater than 0"),
        ("sampler.guidance_scale=.nan", "sampler.guidance_scale = nan"),
        ("score=.nan", "score = nan"),
        ("score=high", "score = 'high'"),
        ("images=zip", "images = 'zip'"),
        ("batch_size=many", "batch_size = 'many'"),
    ],
)
def test_wrong_settings_are_named(call, setting: str, message: str) -> None:  # type: ignore[no-untyped-def]
    result = call("generate", "--config", CONFIG, "--set", "prompts=p", "--set", "output=o", "--set", setting)
    assert result.exit_code == 1
    assert message in result.output


def test_a_table_without_prompts_is_refused(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    prompts, output = prompt_file(tmp_path, text=["a"]), f"output={tmp_path / 'out'}"
    model = "model=tests/assets/golden/tiny"
    result = call("generate", "--config", CONFIG, "--set", prompts, "--set", output, "--set", model)
    assert result.exit_code == 1
    assert "p.parquet: no column 'prompt'; columns are text" in result.output
    assert not (tmp_path / "out").exists()


def test_columns_that_clash_with_the_output_are_refused(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    prompts, output = prompt_file(tmp_path, prompt=["a"], sample_id=["x"]), f"output={tmp_path / 'out'}"
    model = "model=tests/assets/golden/tiny"
    result = call("generate", "--config", CONFIG, "--set", prompts, "--set", output, "--set", model)
    assert result.exit_code == 1
    assert "columns sample_id of the prompt table" in result.output


def test_a_missing_model_is_refused(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    prompts, output = prompt_file(tmp_path, prompt=["a"]), f"output={tmp_path / 'out'}"
    result = call("generate", "--config", CONFIG, "--set", prompts, "--set", output, "--set", "model=nowhere")
    assert result.exit_code == 1
    assert "nowhere: no such folder" in result.output


@pytest.mark.parametrize("command", ["verify", "retry-failed", "status", "gc"])
def test_a_folder_without_a_run_is_refused(call, command: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = call(command, str(tmp_path))
    assert result.exit_code == 1
    assert "no run.json" in result.output


def test_a_plan_is_told_without_writing_anything(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    prompts, output = prompt_file(tmp_path, prompt=["a", "b", "c"]), f"output={tmp_path / 'out'}"
    settings = [prompts, output, "model=tests/assets/golden/tiny", "unit_rows=2"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    result = call("plan", "generate", "--config", CONFIG, *arguments)
    assert result.exit_code == 0
    assert "input  3 prompts in 1 objects" in result.output
    assert "plan   2 units, 2 with 3 prompts not done" in result.output
    assert not (tmp_path / "out").exists()
    told = json.loads(call("plan", "generate", "--config", CONFIG, *arguments, "--json").output)
    assert (told["units"], told["rows_left"], told["rate"]) == (2, 3, None)


def imported_by(*arguments: str) -> set[str]:
    """The modules that a command imports, from its start to its end."""
    command = [sys.executable, "-X", "importtime", "-m", "jobs", *arguments]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return {line.rpartition("|")[2].strip() for line in told.splitlines()}


def test_help_waits_for_nothing_slow() -> None:
    modules = imported_by("--help")
    assert "jobs.doctor" in modules
    assert not modules & {"ray", "pyarrow", "pandas", "torch"}


def test_a_generation_is_planned_without_what_its_workers_compute_with(tmp_path: Path) -> None:
    settings = ["--set", prompt_file(tmp_path, prompt=["a"]), "--set", f"output={tmp_path / 'out'}"]
    modules = imported_by("plan", "generate", "--config", "jobs/configs/demo.yaml", *settings)
    assert {"pipelines.generate", "pipelines.scorers.fetching"} <= modules
    assert not modules & {"torch", "torchvision", "open_clip", "tokenizers", "scipy"}


def test_status_and_gc_of_a_run(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    output = str(tmp_path / "out")
    finish_inline(output, write_input(tmp_path / "in", negative=(3,)))
    (tmp_path / "out" / "data" / "left.parquet").write_bytes(b"123")
    assert "rows   39 done, 1 failed of 40" in call("status", output).output
    assert json.loads(call("status", output, "--json").output)["finished"] is True
    listed = call("gc", output, "--older-than", "0")
    assert "data/left.parquet" in listed.output
    assert "1 objects, 3 bytes, 0 unfinished uploads; --delete removes them" in listed.output
    assert "deleted" in call("gc", output, "--older-than", "0", "--delete").output
    assert not (tmp_path / "out" / "data" / "left.parquet").exists()

"""What `submit` refuses before anything leaves this machine."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobs.__main__ import main
from pipelines.cluster.ray_jobs import JobRequest

GENERATE = ["submit", "generate", "--set", "model=s3://bucket/model", "--set", "prompts=s3://bucket/prompts"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_an_output_that_would_vanish_with_the_job_is_refused() -> None:
    result = call(*GENERATE, "--set", "output=out/run")
    assert result.exit_code == 1
    assert "output 'out/run' would be in a temporary folder of the cluster; name s3://" in result.output


def test_a_wrong_setting_is_told_at_once() -> None:
    result = call(*GENERATE, "--set", "output=s3://bucket/run", "--set", "batch_sice=2")
    assert result.exit_code == 1
    assert "batch_sice = 2: unknown key; did you mean 'batch_size'?" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", "retry-failed"],
        ["submit", "generate", "s3://bucket/run"],
        ["submit", "retry-failed", "s3://bucket/run", "--doctor"],
        ["submit", "select"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(arguments: list[str]) -> None:
    assert call(*arguments).exit_code == 2


def test_a_variable_that_is_not_set_is_refused(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    monkeypatch.setattr("pipelines.cluster.ray_jobs.RayJobs.__init__", lambda *_: None)
    result = call(*GENERATE, "--set", "output=s3://bucket/run", "--env", "NOT_THERE", "--address", nobody)
    assert result.exit_code == 1
    assert "--env NOT_THERE: is not set here" in result.output


@pytest.mark.parametrize("recipe", ["../strict.yaml", str(Path(__file__))])
def test_a_recipe_that_is_not_in_the_checkout_is_refused(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.cluster.ray_jobs.RayJobs.__init__", lambda *_: None)
    settings = ["input=s3://bucket/raw", "output=s3://bucket/curated", f"recipe={recipe}"]
    result = call("submit", "curate", *(part for text in settings for part in ("--set", text)))
    assert result.exit_code == 1
    assert f"recipe '{recipe}' is not in the checkout" in result.output


@pytest.mark.parametrize(
    "changed", [{"env": {"A": "1"}}, {"pip": ("torch",)}, {"entrypoint": "python -m jobs train"}]
)
def test_a_request_is_another_one_when_anything_in_it_is(tmp_path: Path, changed: dict[str, Any]) -> None:
    (tmp_path / "submitted.yaml").write_text("seed: 1")
    request = JobRequest(
        job="train", output="s3://bucket/run", entrypoint="python", source=tmp_path, code_version="git:1"
    )
    assert replace(request, **changed).digest != request.digest
    (tmp_path / "submitted.yaml").write_text("seed: 2")
    assert replace(request).digest != request.digest
    assert replace(request, output="s3://bucket/run/").family == request.family


@pytest.mark.parametrize("command", [["list"], ["stop", "x"], ["logs", "x"]])
def test_where_no_cluster_is_the_remedy_is_told(command: list[str], nobody: str) -> None:
    result = call(*command, "--address", nobody)
    assert result.exit_code == 75
    assert f"{nobody}: no Ray answers there" in result.output
    assert "Traceback" not in result.output

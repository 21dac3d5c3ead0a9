"""The benchmark of whole jobs at toy size: its phases add up, and come from what runs leave behind."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.pipelines import __main__ as suite
from benchmarks.pipelines import imports, phases, traced
from benchmarks.pipelines.simulated_gpu import Arriving, picture
from pipelines.commit import Commit


def a_commit(at: float, seconds: dict[str, float]) -> Commit:
    return Commit(
        unit="u",
        rows_in=4,
        rows_done=4,
        rows_failed=0,
        rows_out=4,
        row_ids_sha256="",
        outputs=(),
        failed=None,
        failures={},
        seconds=seconds,
        events={},
        attempts=1,
        host="h",
        started_at=at - 1,
        committed_at=at,
        code_version="",
    )


def some_notes() -> phases.Notes:
    spans = {
        "config": [(103.0, 104.0)],
        "plan": [(104.0, 108.0)],
        "model": [(105.0, 107.0)],
        "ray": [(108.0, 111.0)],
        "units": [(111.0, 131.0)],
        "manifest": [(129.0, 130.0)],
        "card": [(131.0, 131.5)],
        "report": [(131.5, 131.75)],
    }
    return phases.Notes(started=100.0, began=100.5, imported=103.0, returned=132.0, exited=134.0, spans=spans)


def test_phases_add_up_to_the_time_from_the_command_to_its_exit() -> None:
    notes = some_notes()
    lines = [{"message": "worker built", "at": 119.0, "seconds": 2.0}, {"message": "unit begun", "at": 119.1}]
    units = phases.unit_phases(notes, "units", lines, [a_commit(121.0, {}), a_commit(128.5, {})])
    found = phases.generate_phases(notes, units)
    assert (found["actors"], found["build"], found["first_unit"], found["steady"]) == (6.0, 2.0, 2.0, 7.5)
    assert (found["model"], found["plan"], found["manifest"], found["end"]) == (2.0, 2.0, 1.0, 1.5)
    assert (found["report"], found["other"], found["exit"]) == (0.25, 0.25, 2.0)
    assert sum(found.values()) == notes.exited - notes.started


def test_stages_are_means_of_units() -> None:
    commits = [a_commit(1.0, {"read": 1.0, "pack": 2.0}), a_commit(2.0, {"read": 3.0})]
    assert phases.stage_seconds(commits) == {"read": 2.0, "pack": 1.0}


def test_log_lines_are_those_of_one_job_in_order(tmp_path: Path) -> None:
    lines = [
        {"job_name": "score", "asctime": "2026-11-26 04:51:21,500", "message": "later"},
        {"job_name": "export", "asctime": "2026-11-26 04:51:20,000", "message": "another"},
        {"job_name": "score", "asctime": "2026-11-26 04:51:20,272", "message": "earlier"},
    ]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "worker-1.err").write_text("not JSON\n" + "\n".join(map(json.dumps, lines)))
    found = phases.log_lines(tmp_path, "score")
    assert [line["message"] for line in found] == ["earlier", "later"]
    assert found[1]["at"] - found[0]["at"] == pytest.approx(1.228)


@pytest.mark.parametrize("command", traced.STEPS)
def test_every_step_is_a_function_that_is_there(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[Any, str, Any]] = []
    monkeypatch.setattr(traced, "setattr", lambda *taken: kept.append(taken), raising=False)
    for place in traced.STEPS[command].values():
        traced.watch(place, [])
    assert all(callable(function) for _, _, function in kept)
    assert len(kept) == len(traced.STEPS[command])


@pytest.mark.slow
def test_processes_without_a_model_import_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    light = [name for name in imports.PROCESSES if name != "generate: worker"]
    monkeypatch.setattr(imports, "PROCESSES", {name: imports.PROCESSES[name] for name in light})
    assert {name: found["torch"] for name, found in imports.measure(1).items()} == dict.fromkeys(light, False)


def test_repeated_runs_become_spreads() -> None:
    joined = suite.joined([{"a": {"b": 1.0}, "images": 4}, {"a": {"b": 3.0}, "images": 4}])
    assert joined["images"] == 4
    assert joined["a"]["b"]["median"] == 2.0


def test_a_simulated_batch_is_there_when_it_is_time() -> None:
    began = time.time()
    (tensor,) = Arriving(began + 0.05, torch.ones(2)).wait()
    assert time.time() - began >= 0.05
    assert tensor.tolist() == [1.0, 1.0]


def test_the_picture_compresses_about_as_a_photograph() -> None:
    from pipelines.images import encode_image

    size = len(encode_image(picture(256).numpy(), "png", 95))
    assert 0.3 < size / (256 * 256 * 3) < 0.8


@pytest.mark.ray
@pytest.mark.reliability
def test_all_parts_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pipelines.json"
    suite.main(["--small", "--out", str(out)])
    measures = json.loads(out.read_text())["measures"]
    assert list(measures) == list(suite.PARTS)
    generated = measures["generate"]
    assert generated["images"] == 4
    assert sum(generated["phases"].values()) == pytest.approx(generated["total_s"], abs=0.1)
    assert 0 < generated["first_image_s"] < generated["total_s"]
    assert measures["curate"]["images"] == 41
    assert sum(measures["curate"]["phases"].values()) == pytest.approx(measures["curate"]["total_s"], abs=0.1)
    assert {name: busy["actors"] for name, busy in measures["busy"].items() if name != "load_average"} == {
        "sleeping": 2,
        "generate": 2,
    }
    assert "first image committed after" in capsys.readouterr().out


def test_the_published_figures_are_those_of_full_sizes() -> None:
    published = json.loads((suite.RESULTS / "pipelines.json").read_text())
    assert published["settings"] == json.loads(json.dumps(suite.dataclasses.asdict(suite.FULL)))
    assert list(published["measures"]) == list(suite.PARTS)

"""Whole commands in processes of their own, each on a Ray of its own, and what they left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.pipelines.phases import (
    Notes,
    curate_phases,
    generate_phases,
    log_lines,
    stage_seconds,
    unit_phases,
)
from benchmarks.timing import significant
from examples.shapes.images import ImageSet, write_images
from examples.shapes.prompts import choose_scenes, prompt_table
from pipelines.commit import Commit
from pipelines.curation.layout import scores_uri
from pipelines.ledger import Ledger

CURATE_CONFIG = "examples/shapes/curate_training.yaml"
GENERATE_CONFIG = "jobs/configs/demo.yaml"


def write_prompts(file: Path, count: int) -> None:
    """The prompt table of `make demo`, of so many rows."""
    pq.write_table(prompt_table(choose_scenes("test", count, two_object_share=0.5, seed=0)), file)


def write_raw_images(folder: Path, count: int) -> None:
    """Images with captions, a fortieth of them twice, as Parquet."""
    write_images(folder, ImageSet(num_images=count, two_object_share=1.0, num_copies=max(count // 40, 1)))


def generate(prompts: Path, unit_rows: int) -> dict[str, Any]:
    """Generate images of a prompt table by the demo's configuration, from the command to its exit."""
    with tempfile.TemporaryDirectory() as scratch:
        output = f"{scratch}/out"
        settings = [f"prompts={prompts}", f"output={output}", f"unit_rows={unit_rows}"]
        notes = _run(Path(scratch), "generate", GENERATE_CONFIG, settings)
        commits = commits_of(output)
        phases = generate_phases(
            notes, unit_phases(notes, "units", log_lines(Path(scratch), "generate"), commits)
        )
    return {
        "phases": _rounded(phases),
        "total_s": significant(notes.exited - notes.started),
        "first_image_s": significant(commits[0].committed_at - notes.started),
        "stages_of_first_unit": _rounded(commits[0].seconds),
        "stages_of_others": _rounded(stage_seconds(commits[1:])),
        "images": sum(commit.rows_out for commit in commits),
        "steady_images_per_s": _rate(commits),
    }


def curate(images: Path, unit_rows: int) -> dict[str, Any]:
    """Curate images by the configuration of the example's training set, from the command to its exit."""
    with tempfile.TemporaryDirectory() as scratch:
        output = f"{scratch}/out"
        settings = [f"input={images}", f"output={output}", f"score.unit_rows={unit_rows}"]
        notes = _run(Path(scratch), "curate", CURATE_CONFIG, settings)
        scored, exported = commits_of(scores_uri(output)), commits_of(f"{output}/datasets/default")
        scoring = unit_phases(notes, "units", log_lines(Path(scratch), "score"), scored)
        export = unit_phases(notes, "export_units", log_lines(Path(scratch), "export"), exported)
        phases = curate_phases(notes, scoring, export)
    return {
        "phases": _rounded(phases),
        "total_s": significant(notes.exited - notes.started),
        "stages_of_a_scored_unit": _rounded(stage_seconds(scored)),
        "stages_of_an_exported_unit": _rounded(stage_seconds(exported)),
        "images": sum(commit.rows_in for commit in scored),
        "steady_images_per_s": _rate(scored),
    }


def commits_of(output: str) -> list[Commit]:
    """The commit records of a run, by time."""
    ledger = Ledger.load(output)
    return sorted(ledger.committed(ledger.planned()).values(), key=lambda commit: commit.committed_at)


def _run(scratch: Path, command: str, config: str, settings: list[str]) -> Notes:
    """Run a command; its Ray keeps its files in `scratch`, which must have a short path."""
    notes = scratch / "notes.json"
    environment = os.environ | {"RAY_TMPDIR": str(scratch), "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    arguments = [sys.executable, "-m", "benchmarks.pipelines.traced", str(notes), command, "--config", config]
    for setting in settings:
        arguments += ["--set", setting]
    started = time.time()
    subprocess.run(arguments, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    exited = time.time()
    return Notes(started=started, exited=exited, **json.loads(notes.read_text()))


def _rate(commits: list[Commit]) -> float | None:
    """Rows a second from the first commit to the last; None for fewer than two."""
    span = commits[-1].committed_at - commits[0].committed_at
    return significant(sum(commit.rows_in for commit in commits[1:]) / span) if span else None


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in seconds.items()}

"""The chain of the shapes world in its short form: what it learns, and that no step is done twice."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.shapes.train import FULL, LOG, MODEL, SHORT, Chain
from meissonic.checkpoint import Meissonic
from pipelines.errors import RefusalError


def read_log(model: Path) -> dict[str, list[dict[str, Any]]]:
    lines = [json.loads(line) for line in (model / LOG).read_text().splitlines()]
    return {
        kind: [line for line in lines if line["kind"] == kind] for kind in ("loss", "validation", "accuracy")
    }


@pytest.mark.reliability
@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_the_short_chain_learns_colours_also_when_it_was_killed(tmp_path: Path) -> None:
    work, model = tmp_path / "work", tmp_path / "model"
    command = [sys.executable, "-m", "examples.shapes.train", "--short"]
    command += ["--work", str(work), "--model", str(model)]
    checkpoints = work / "training/stages/main/checkpoints"
    with subprocess.Popen(command) as killed:
        while killed.poll() is None and not list(checkpoints.glob("*.json")):
            time.sleep(1)
        killed.kill()
    assert not model.exists()
    subprocess.run(command, check=True)

    log = read_log(model)
    losses = [line["loss"] for line in log["loss"]]
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    validation = [line["loss"]["1"] for line in log["validation"]]
    assert validation[-1] < validation[0]
    (accuracy,) = log["accuracy"]
    assert accuracy["two_shapes"]["images"] == SHORT.num_prompts[1]
    assert accuracy["two_shapes"]["color"] > 0.8

    trained = Meissonic.from_pretrained(model)
    assert trained.transformer.config == Meissonic.from_pretrained(MODEL).transformer.config
    assert {"held_out.png", "loss.png"} <= {path.name for path in work.iterdir()}
    assert sorted(path.name for path in (work / "training/stages/main/samples").iterdir())


def test_a_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    few = replace(SHORT, images=replace(SHORT.images, num_images=10, num_copies=1))
    Chain(tmp_path / "work", tmp_path / "model", MODEL, few).run("draw")
    with pytest.raises(RefusalError, match="holds something else"):
        Chain(tmp_path / "work", tmp_path / "model", MODEL, FULL).run("draw")
    with pytest.raises(RefusalError, match="holds something else"):
        Chain(tmp_path / "other", MODEL, MODEL, few).run("draw")

"""A training on Ray, whole: exact, resumable, and clear about what cannot be run."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

from meissonic import Meissonic
from pipelines.models import fetch_model
from pipelines.storage import child, open_storage
from pipelines.training.checkpoints import CheckpointStore
from pipelines.training.export import export_checkpoint
from pipelines.training.job import stage_uri
from pipelines.training.logs import read_log
from pipelines.training.monitor import TrainingProgress
from pipelines.training.planning import TrainingError
from pipelines.training.skips import read_skips
from pipelines.training.trainer import TrainingStoppedError, plan_training
from pipelines.training.weights import read_weights
from tests.pipelines.training.tiny_training import INIT, NUM_STEPS, losses, token_store, train_config
from tests.servers.processes import kill

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> str:
    return token_store(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def undisturbed(local_ray: None, tokens: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    plan_training(train_config(tokens, output, "validation.prompts=[a red circle]")).run()
    return output


def final_weights(output: Path | str) -> dict[str, torch.Tensor]:
    """Raw and averaged, of the last checkpoint."""
    raw, average = read_weights(str(output), "raw").tensors, read_weights(str(output), "average").tensors
    return {f"raw.{name}": w for name, w in raw.items()} | {f"average.{n}": w for n, w in average.items()}


def assert_same(output: Path | str, expected: Path) -> None:
    assert losses(output) == losses(expected)
    found, wanted = final_weights(output), final_weights(expected)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in found)


@pytest.mark.slow
def test_every_step_is_trained_and_told(undisturbed: Path) -> None:
    lines = list(read_log(f"{undisturbed}/stages/main"))
    assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(1, NUM_STEPS + 1))
    validations = [line for line in lines if line["kind"] == "validation"]
    assert [line["step"] for line in validations] == [6, 12]
    assert validations[-1]["loss"].keys() == {"0.5", "1"}
    rates = [line for line in lines if line["kind"] == "rate"]
    assert all(line["samples_per_s"] > 0 and 0 <= line["data_wait"] <= 1 for line in rates)
    assert all(line["utilisation"] > 0 for line in rates)
    found = losses(undisturbed)
    assert found[NUM_STEPS] < found[1] - 0.3
    with Image.open(undisturbed / "stages" / "main" / "samples" / "00000012.png") as samples:
        assert samples.width > 4 * 128


@pytest.mark.slow
def test_a_finished_training_is_not_run_again(undisturbed: Path, tokens: str) -> None:
    result = plan_training(train_config(tokens, undisturbed)).run()
    assert result.steps_run == 0
    assert result.checkpoint.endswith("stages/main/checkpoints/step-00000012.json")


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(undisturbed: Path, tokens: str, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one(progress: TrainingProgress, restarts: int) -> None:
        if progress.step >= 4 and not killed:
            killed.extend(worker_pids())
            os.kill(killed[0], signal.SIGKILL)

    plan_training(train_config(tokens, tmp_path, "logging.every_steps=1")).run(kill_one)
    assert killed
    assert_same(tmp_path, undisturbed)


def worker_pids() -> list[int]:
    own = psutil.Process().children(recursive=True)
    return [process.pid for process in own if "RayTrainWorker" in " ".join(process.cmdline())]


@pytest.mark.reliability
def test_a_batch_that_is_not_finite_is_left_out(local_ray: None, tokens: str, tmp_path: Path) -> None:
    # at this rate the weights of the second step are past all bounds
    broken = train_config(tokens, tmp_path, "stages.0.learning_rate=1e38", "max_skipped_batches=2")
    with pytest.raises(
        TrainingStoppedError, match=r"2 batches were left out before.*lower the learning rate"
    ):
        plan_training(broken).run()
    assert len(read_skips(open_storage(f"{tmp_path}/stages/main"))) == 2


@pytest.mark.reliability
def test_training_goes_on_without_the_batches_of_a_poisoned_sample(local_ray: None, tmp_path: Path) -> None:
    tokens = token_store(tmp_path / "tokens", poisoned=5)
    plan_training(train_config(tokens, tmp_path / "out")).run()
    found = losses(tmp_path / "out")
    assert list(found) == list(range(1, NUM_STEPS + 1))
    assert all(math.isfinite(loss) for loss in found.values())
    # five batches an epoch: the sample comes once in each
    left_out = read_skips(open_storage(f"{tmp_path}/out/stages/main"))
    trained = {batch for _, batch in batches(tmp_path / "out")}
    assert len(left_out) in (2, 3)
    assert sorted(trained | left_out) == list(range(NUM_STEPS + len(left_out)))
    assert all(w.isfinite().all() for w in final_weights(tmp_path / "out").values())


def test_tokens_of_another_codebook_are_refused(tmp_path: Path) -> None:
    tokens = token_store(tmp_path / "tokens", codebook_size=32)
    with pytest.raises(TrainingError, match="tokens of 32 codes, `init` has 256"):
        plan_training(train_config(tokens, tmp_path / "out"))


@pytest.mark.reliability
def test_tokens_past_the_codebook_stop_it_at_once(local_ray: None, tmp_path: Path) -> None:
    tokens = token_store(tmp_path / "more", first_token=240)
    with pytest.raises(TrainingStoppedError, match=r"row \d+: token \d+, but the VQ model has 256 codes"):
        plan_training(train_config(tokens, tmp_path / "out")).run()


@pytest.mark.reliability
def test_the_text_tower_may_learn_too(local_ray: None, tokens: str, tmp_path: Path) -> None:
    overrides = ("stages.0.train_text=true", "stages.0.num_steps=2", "validation.prompts=[a red circle]")
    plan_training(train_config(tokens, tmp_path / "out", *overrides)).run()
    export_checkpoint(str(tmp_path / "out"), str(tmp_path / "model"))
    before, after = (Meissonic.from_pretrained(folder) for folder in (INIT, tmp_path / "model"))
    weights = before.text_encoder.to_huggingface(), after.text_encoder.to_huggingface()
    moved = [name for name, weight in weights[0].items() if not torch.equal(weight, weights[1][name])]
    assert len(moved) > len(weights[0]) / 2


@pytest.mark.reliability
@pytest.mark.timeout(900)
def test_stages_follow_each_other_and_gain_compression(local_ray: None, tokens: str, tmp_path: Path) -> None:
    stage = {"datasets": [tokens], "num_steps": 4, "batch_size": 8, "learning_rate": 1e-3}
    stages = [stage | {"name": "first"}, stage | {"name": "second", "compression": True}]
    result = plan_training(train_config(tokens, tmp_path, stages=stages)).run()
    assert result.num_steps == result.steps_run == 8
    first, second = (read_weights(f"{tmp_path}/stages/{name}", "average") for name in ("first", "second"))
    assert second.transformer.downsample
    assert not first.transformer.downsample
    assert second.tensors.keys() - first.tensors.keys() == {
        f"transformer.{block}.{layer}.weight"
        for block in ("down_block.downsample", "up_block.upsample")
        for layer in ("norm", "conv")
    }
    # it goes on from what the first has learnt, not from nothing
    assert losses(tmp_path, "second")[1] < losses(tmp_path, "first")[1] - 0.1
    more = [*stages, stage | {"name": "third"}]
    assert plan_training(train_config(tokens, tmp_path, stages=more)).run().steps_run == 4


@pytest.mark.s3
@pytest.mark.reliability
def test_all_of_it_may_be_on_object_storage(undisturbed: Path, s3_server: str) -> None:
    place = f"s3://bucket/{uuid.uuid4().hex}?endpoint_url={s3_server}"
    output = child(place, "training")
    plan_training(train_config(token_store(child(place, "tokens")), output)).run()
    assert_same(output, undisturbed)
    export_checkpoint(output, child(place, "model"))
    folder = fetch_model(child(place, "model")).folder
    assert Meissonic.from_pretrained(folder).transformer.config.num_layers == 1
    paths = {entry.path for entry in open_storage(stage_uri(output, "main")).list()}
    assert any(path.startswith("tensorboard/events") for path in paths)


@pytest.mark.reliability
@pytest.mark.timeout(600)
def test_killed_drivers_change_nothing(undisturbed: Path, tokens: str, tmp_path: Path) -> None:
    for step in (4, 8):
        run_until(tmp_path, step, tokens)
    plan_training(train_config(tokens, tmp_path)).run()
    assert_same(tmp_path, undisturbed)


@pytest.mark.reliability
@pytest.mark.timeout(900)
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_any_number_of_workers_sees_the_same_samples(
    undisturbed: Path, tokens: str, tmp_path: Path, parallel: str
) -> None:
    run_until(tmp_path, 4, tokens)
    how = (f"workers.parallel={parallel}", "validation.prompts=[a red circle]")
    run_until(tmp_path, 8, tokens, "workers.num_workers=2", *how)
    plan_training(train_config(tokens, tmp_path, "workers.micro_batch_size=2", *how)).run()
    assert batches(tmp_path) == batches(undisturbed)
    found, expected = losses(tmp_path), losses(undisturbed)
    assert found == pytest.approx(expected, rel=2e-4)
    assert {step: found[step] for step in range(1, 5)} == {step: expected[step] for step in range(1, 5)}


def batches(output: Path) -> list[tuple[int, int]]:
    """Of each step, its number and that of its batch in the order of the data."""
    lines = read_log(f"{output}/stages/main")
    return [(line["step"], line["batch"]) for line in lines if line["kind"] == "step"]


def run_until(output: Path, step: int, tokens: str, *overrides: str) -> None:
    """Run a driver; kill it and all its processes once a step's checkpoint is complete."""
    command = [sys.executable, "-m", "tests.pipelines.training.driver", tokens, str(output), *overrides]
    process = subprocess.Popen(command)
    store = CheckpointStore(storage=open_storage(f"{output}/stages/main"))
    while (store.newest() or 0) < step and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None, "the driver ended by itself"
    kill(process)

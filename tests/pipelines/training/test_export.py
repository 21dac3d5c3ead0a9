"""A checkpoint becomes a model folder that `generate` loads."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import nn

from jobs.__main__ import main
from meissonic import Meissonic
from meissonic.config import ScoreCondition
from meissonic.model_folder import read_generation_config
from pipelines.errors import RefusalError
from pipelines.models import fetch_model, folder_digest
from pipelines.storage import child, open_storage
from pipelines.training.checkpoints import Checkpointer, CheckpointStore
from pipelines.training.export import export_checkpoint
from schemas.manifest import json_bytes
from tests.meissonic.golden import FOLDER

SCORE = ScoreCondition(column="hps", low=0.1, high=0.4, condition_low=1, condition_high=10, default=0.3)
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEISSONIC_CACHE", str(tmp_path / "cache"))


class Trained(nn.Module):
    """The trained parts, under the names of the training: the golden weights plus `shift`."""

    def __init__(self, shift: float, train_text: bool) -> None:
        super().__init__()
        model = Meissonic.from_pretrained(FOLDER)
        self.transformer = model.transformer
        if train_text:
            self.text_encoder = model.text_encoder
        with torch.no_grad():
            for parameter in self.parameters():
                parameter += shift


def write_stage(uri: str, step: int = 100, *, train_text: bool = False, **changes: Any) -> str:
    """A stage with one checkpoint: raw weights are shifted by 2, averaged ones by 1."""
    stage = open_storage(uri)
    config = {
        "transformer": json.loads((FOLDER / "transformer" / "config.json").read_text()),
        "init": {"uri": str(FOLDER), "digest": folder_digest(FOLDER)},
        "score_condition": SCORE.to_json(),
        "resolution": [96, 64],
        "start": None,
    }
    stage.write("run.json", json_bytes({"config": config | changes}))
    state = {
        "model": Trained(2, train_text).state_dict(),
        "average": Trained(1, train_text).state_dict(),
        "optimizer": {},
    }
    with Checkpointer(store=CheckpointStore(stage), rank=0, world_size=1) as checkpointer:
        checkpointer.save(step=step, state=state)
    return uri


@pytest.fixture
def stage(tmp_path: Path) -> str:
    return write_stage(str(tmp_path / "run" / "stages" / "one"))


def transformer_shift(folder: str | Path) -> set[float]:
    """What was added to the golden transformer's weights."""
    before, after = load_file(FOLDER / TRANSFORMER), load_file(Path(folder) / TRANSFORMER)
    assert before.keys() == after.keys()
    return {round(float((after[k].float() - before[k].float()).mean()), 2) for k in before}


def test_generate_loads_what_is_exported(stage: str, tmp_path: Path) -> None:
    exported = export_checkpoint(f"{stage}/checkpoints/step-00000100.json", str(tmp_path / "model"))
    model = fetch_model(str(tmp_path / "model"), exported.digest)
    loaded, init = Meissonic.from_pretrained(model.folder), Meissonic.from_pretrained(FOLDER)
    assert transformer_shift(model.folder) == {1.0}
    for part in ("vq", "text_encoder"):
        before, after = getattr(init, part).state_dict(), getattr(loaded, part).state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
    settings = read_generation_config(model.folder)
    assert (settings.width, settings.height, settings.score) == (96, 64, SCORE)


def test_averaged_and_raw_weights_differ(stage: str, tmp_path: Path) -> None:
    export_checkpoint(stage, str(tmp_path / "average"), "average")
    export_checkpoint(stage, str(tmp_path / "raw"), "raw")
    assert transformer_shift(tmp_path / "average") == {1.0}
    assert transformer_shift(tmp_path / "raw") == {2.0}


@pytest.mark.slow
def test_a_text_tower_that_was_trained_is_exported(tmp_path: Path) -> None:
    stage = write_stage(str(tmp_path / "stage"), train_text=True)
    export_checkpoint(stage, str(tmp_path / "model"))
    before = Meissonic.from_pretrained(FOLDER).text_encoder.state_dict()
    after = Meissonic.from_pretrained(tmp_path / "model").text_encoder.state_dict()
    assert all(torch.allclose(after[name], before[name] + 1) for name in before)


def test_the_init_model_needs_no_transformer(tmp_path: Path) -> None:
    init = Path(shutil.copytree(FOLDER, tmp_path / "init"))
    shutil.rmtree(init / "transformer")
    given = {"uri": str(init), "digest": folder_digest(init)}
    stage = write_stage(str(tmp_path / "stage"), init=given, score_condition=None)
    export_checkpoint(stage, str(tmp_path / "model"))
    assert transformer_shift(tmp_path / "model") == {1.0}
    assert read_generation_config(tmp_path / "model").score is None


def test_an_output_stands_for_the_newest_checkpoint_of_its_last_stage(tmp_path: Path) -> None:
    output = str(tmp_path / "run")
    stages = {"b": None, "a": {"stage": "b"}, "c": {"stage": "a"}}
    for name, start in stages.items():
        write_stage(f"{output}/stages/{name}", start=start)
        os.utime(f"{output}/stages/{name}/run.json", (1, 1))
    write_stage(f"{output}/stages/c", step=20, start=stages["c"])
    exported = export_checkpoint(output, str(tmp_path / "one"))
    assert exported.checkpoint.endswith("/stages/c/checkpoints/step-00000100.json")
    shutil.rmtree(f"{output}/stages/c/checkpoints")  # it has only begun
    exported = export_checkpoint(output, str(tmp_path / "two"))
    assert exported.checkpoint.endswith("/stages/a/checkpoints/step-00000100.json")


@pytest.mark.s3
def test_from_a_bucket_to_a_bucket(s3_server: str, tmp_path: Path) -> None:
    root = f"s3://bucket/{tmp_path.name}?endpoint_url={s3_server}"
    write_stage(child(root, "run/stages/one"))
    record = child(root, "run/stages/one/checkpoints/step-00000100.json")
    exported = export_checkpoint(record, child(root, "model"))
    model = fetch_model(child(root, "model"), exported.digest)
    assert transformer_shift(model.folder) == {1.0}
    with pytest.raises(RefusalError, match="there are objects already"):
        export_checkpoint(record, child(root, "model"))


def test_the_command_says_what_it_wrote(stage: str, tmp_path: Path) -> None:
    arguments = ["export", stage, str(tmp_path / "model"), "--weights", "raw", "--dtype", "float16"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "raw weights of" in result.output
    assert "step-00000100.json" in result.output
    assert {w.dtype for w in load_file(tmp_path / "model" / TRANSFORMER).values()} == {torch.float16}
    assert transformer_shift(tmp_path / "model") == {2.0}


def test_wrong_places_are_named(stage: str, tmp_path: Path) -> None:
    def refusal(uri: str) -> str:
        with pytest.raises(RefusalError) as error:
            export_checkpoint(uri, str(tmp_path / "model"))
        assert not (tmp_path / "model").exists()
        return str(error.value)

    assert "no training there" in refusal(str(tmp_path / "nowhere"))
    assert "complete are those of the steps: 100" in refusal(f"{stage}/checkpoints/step-00000300.json")
    (tmp_path / "begun").mkdir()
    shutil.copy(f"{stage}/run.json", tmp_path / "begun")
    assert "no complete checkpoint in it yet" in refusal(str(tmp_path / "begun"))
    other = Path(shutil.copytree(stage, tmp_path / "other"))
    (other / "run.json").write_text('{"config": {"prompts": {}}}')
    assert f"{other}/run.json: no transformer, init" in refusal(str(other))


def test_a_folder_that_is_not_empty_is_left_alone(stage: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("")
    with pytest.raises(RefusalError, match="is not an empty folder"):
        export_checkpoint(stage, str(tmp_path / "model"))
    assert os.listdir(tmp_path / "model") == ["mine"]


def test_weights_that_are_not_the_configurations_are_refused(tmp_path: Path) -> None:
    config = json.loads((FOLDER / "transformer" / "config.json").read_text())
    stage = write_stage(str(tmp_path / "stage"), transformer=config | {"num_layers": 1})
    with pytest.raises(RefusalError, match=r"not those of the configuration in run.json"):
        export_checkpoint(stage, str(tmp_path / "model"))


def test_an_init_model_that_was_changed_is_refused(tmp_path: Path) -> None:
    stage = write_stage(str(tmp_path / "stage"), init={"uri": str(FOLDER), "digest": "0" * 64})
    with pytest.raises(RefusalError, match="the model changed"):
        export_checkpoint(stage, str(tmp_path / "model"))

"""What is refused before any worker starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.config import ConfigError
from pipelines.errors import LedgerError, RefusalError
from pipelines.models import LocalModel, fetch_model
from pipelines.training.planning import TrainingError, plan_stages
from pipelines.training.settings import TrainConfig
from pipelines.training.token_store import TokenStoreError
from tests.pipelines.training.made_tokens import Shard, write_tokens
from tests.pipelines.training.tiny_training import INIT, token_store, train_config, vq_of_init


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return fetch_model(INIT)


def test_batches_must_divide_among_workers(tmp_path: Path, model: LocalModel) -> None:
    config = train_config(token_store(tmp_path / "tokens"), tmp_path, "workers.num_workers=3")
    with pytest.raises(TrainingError, match=r"batch_size 8 does not divide among workers.num_workers 3"):
        plan_stages(config, model)


def test_micro_batches_must_divide_too(tmp_path: Path, model: LocalModel) -> None:
    config = train_config(token_store(tmp_path / "tokens"), tmp_path, "workers.micro_batch_size=3")
    with pytest.raises(TrainingError, match="micro-batches of 3; nearest that does is 9"):
        plan_stages(config, model)


def test_an_empty_token_store_is_refused(tmp_path: Path, model: LocalModel) -> None:
    tokens = write_tokens(tmp_path / "tokens", [], vq=vq_of_init())
    with pytest.raises(TokenStoreError, match="tokens"):
        plan_stages(train_config(tokens, tmp_path), model)


def test_tokens_of_another_vq_model_are_refused(tmp_path: Path, model: LocalModel) -> None:
    tokens = write_tokens(tmp_path / "tokens", [Shard(grid=(4, 4))])
    with pytest.raises(TrainingError, match="tokens are of the VQ model aaaaaaaaaaaa, that of `init`"):
        plan_stages(train_config(tokens, tmp_path), model)


def test_stores_of_two_vq_models_do_not_mix(tmp_path: Path, model: LocalModel) -> None:
    own, other = token_store(tmp_path / "own"), write_tokens(tmp_path / "other", [Shard(grid=(4, 4))])
    config = train_config(own, tmp_path, f"stages.0.datasets=[{own}, {other}]")
    with pytest.raises(TokenStoreError, match="VQ model"):
        plan_stages(config, model)


def test_odd_grids_cannot_be_compressed(tmp_path: Path, model: LocalModel) -> None:
    tokens = token_store(tmp_path / "tokens", grid=(3, 4))
    config = train_config(tokens, tmp_path, "transformer.compression=true")
    with pytest.raises(TrainingError, match="3x4 tokens cannot be compressed"):
        plan_stages(config, model)


def test_a_transformer_that_does_not_fit_the_text_tower_is_refused(tmp_path: Path, model: LocalModel) -> None:
    config = train_config(token_store(tmp_path / "t"), tmp_path, "transformer.num_attention_heads=2")
    with pytest.raises(RefusalError, match="pooled_projection_dim 96 must equal"):
        plan_stages(config, model)


def test_a_trained_text_tower_stays_trained(tmp_path: Path, model: LocalModel) -> None:
    tokens = token_store(tmp_path / "tokens")
    stage = {"datasets": [tokens], "num_steps": 2, "batch_size": 8}
    stages = [stage | {"name": "a", "train_text": True}, stage | {"name": "b"}]
    with pytest.raises(TrainingError, match="stage b: the text tower was trained before it"):
        plan_stages(train_config(tokens, tmp_path, stages=stages), model)


def test_stages_need_names_that_differ(tmp_path: Path) -> None:
    stage = {"datasets": ["tokens"], "num_steps": 2, "batch_size": 8}
    with pytest.raises(ConfigError, match="names that differ"):
        train_config("tokens", tmp_path, stages=[stage, stage])


def test_what_changes_the_result_is_refused_with_a_diff(tmp_path: Path, model: LocalModel) -> None:
    tokens = token_store(tmp_path / "tokens")

    def open_stage(*overrides: str) -> None:
        (plan,) = plan_stages(train_config(tokens, tmp_path / "out", *overrides), model)
        plan.open(None)

    open_stage()
    open_stage("workers.num_workers=2", "checkpoints.every_steps=1", "logging.tensorboard=false")
    with pytest.raises(LedgerError, match=r"config.stage.learning_rate: 0.001 -> 0.002"):
        open_stage("stages.0.learning_rate=0.002")
    with pytest.raises(LedgerError, match=r"config.seed: 5 -> 6"):
        open_stage("seed=6")


def test_the_shipped_configuration_is_valid() -> None:
    from pipelines.config import load_config
    from pipelines.models import PROJECT

    path = PROJECT / "jobs" / "configs" / "train.yaml"
    config = load_config(TrainConfig, path, ["init=models/meissonic", "output=out"])
    assert [stage.name for stage in config.stages] == ["px256", "px512", "px1024", "preference"]

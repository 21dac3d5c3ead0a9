"""The model of a stage, as its first step finds it."""

from __future__ import annotations

from pathlib import Path

from meissonic import Meissonic
from meissonic.config import TransformerConfig
from meissonic.growing import with_compression
from meissonic.model_folder import ModelConfigs, read_configs
from meissonic.training import new_transformer
from pipelines.errors import RefusalError
from pipelines.models import fetch_model
from pipelines.training.job import StageJob
from pipelines.training.settings import StageSettings, TrainConfig
from pipelines.training.weights import read_weights


def start_config(config: TrainConfig, folder: Path) -> TransformerConfig:
    """The configuration of the transformer that the run starts from.

    Raises:
        RefusalError: There is none, or it does not fit the tokenizers.
    """
    configs = read_configs(folder)
    if config.transformer is not None:
        return _new_config(config, configs)
    if configs.transformer is None:
        raise RefusalError(
            f"{config.init}: no transformer in this folder; say with `transformer` how to make a new one"
        )
    return configs.transformer


def _new_config(config: TrainConfig, configs: ModelConfigs) -> TransformerConfig:
    assert config.transformer is not None
    try:
        return config.transformer.config(
            text_width=configs.text.hidden_size,
            pooled_width=configs.text.projection_dim,
            codebook_size=configs.vq.num_vq_embeddings,
            vocab_size=configs.scheduler.mask_token_id + 1,
        )
    except ValueError as error:
        raise RefusalError(f"transformer: {error}; correct it, or the model in `init`") from error


def stage_config(before: TransformerConfig, stage: StageSettings) -> TransformerConfig:
    """The transformer of a stage, from that of the stage before, or that the run starts from."""
    if stage.compression:
        return TransformerConfig.from_json(before.to_json() | {"downsample": True, "upsample": True})
    return before


def start_model(job: StageJob) -> Meissonic:
    """The whole model in float32 on the CPU, before the stage's first step."""
    folder = fetch_model(job.config.init, job.init_digest).folder
    if job.start is not None:
        trained = read_weights(job.start, "average")
        model = Meissonic.from_pretrained(folder, transformer=trained.new_transformer())
        if text := trained.weights("text_encoder"):
            model.text_encoder.load_state_dict(text)
    elif job.config.transformer is not None:
        config = start_config(job.config, folder)
        model = Meissonic.from_pretrained(folder, transformer=new_transformer(config, job.config.seed))
    else:
        model = Meissonic.from_pretrained(folder)
    if job.stage.compression and not model.transformer.config.downsample:
        model.transformer = with_compression(model.transformer)
    return model

"""The configuration of each job that a configuration file describes."""

import pkgutil

from pipelines.config import Config

MODELS = {
    "curate": "pipelines.curation.settings:CurateConfig",
    "generate": "pipelines.generation_config:GenerateConfig",
    "score": "pipelines.curation.settings:ScoreConfig",
    "tokenize": "pipelines.tokenization:TokenizeConfig",
    "train": "pipelines.training.settings:TrainConfig",
}
"""By the job's name; imported when one is asked for, as most commands need none."""


def config_model(job: str) -> type[Config]:
    """The model of a job's configuration."""
    model: type[Config] = pkgutil.resolve_name(MODELS[job])
    return model

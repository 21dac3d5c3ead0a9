"""The jobs that a configuration file describes; what one is made of is imported when it is asked for."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.config import Config

if TYPE_CHECKING:
    from pipelines.planned_run import PlannedRun
    from pipelines.unit_job import UnitJob  # imports Ray

MODELS = {
    "curate": "pipelines.curation.settings:CurateConfig",
    "generate": "pipelines.generation_config:GenerateConfig",
    "package": "pipelines.packaging.settings:PackageConfig",
    "score": "pipelines.curation.settings:ScoreConfig",
    "tokenize": "pipelines.tokenization:TokenizeConfig",
    "train": "pipelines.training.settings:TrainConfig",
}
"""Of configurations, by the job's name."""
_PLANNERS = {
    "curate": "pipelines.curation.passes:plan_curation",
    "generate": "pipelines.generate:plan_job",
    "package": "pipelines.packaging.job:plan_packaging",
    "score": "pipelines.curation.scoring:plan_scoring",
    "tokenize": "pipelines.tokenization:plan_tokenization",
}


class PlannedJob(Protocol):
    """A bulk job that has written nothing but listings of its input."""

    @property
    def weights(self) -> dict[str, str]:
        """Digests of what its workers load, by name."""

    @property
    def run(self) -> PlannedRun:
        """What it will do."""

    def unit_job(self) -> UnitJob:
        """What to run over the units, on the cluster that this driver is connected to."""


def config_model(job: str) -> type[Config]:
    """The model of a job's configuration."""
    model: type[Config] = pkgutil.resolve_name(MODELS[job])
    return model


def planner(job: str) -> Callable[[Any], PlannedJob]:
    """What makes the plan of a bulk job from its configuration."""
    plan: Callable[[Any], PlannedJob] = pkgutil.resolve_name(_PLANNERS[job])
    return plan

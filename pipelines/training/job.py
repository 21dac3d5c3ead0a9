"""What a worker is told, and where the parts of a run are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.storage import Storage, child

if TYPE_CHECKING:
    from pipelines.training.settings import (  # imports torch, which reports do not need
        StageSettings,
        TrainConfig,
    )

STAGES = "stages"
FORMAT = "meissonic-training-1"


@dataclass(frozen=True, kw_only=True)
class StageJob:
    """A stage that is ready to run; small, for it travels to every worker.

    Attributes:
        config: Of the run, without "auto".
        stage: Of the stage.
        storage: Its folder.
        init_digest: What the model that the run starts from must be.
        start: URI of the checkpoint to start from; None for the run's first stage.
        grid: Tokens (rows, columns) of most images: samples have this size.
    """

    config: TrainConfig
    stage: StageSettings
    storage: Storage
    init_digest: str
    start: str | None
    grid: tuple[int, int]


def stage_uri(output: str, name: str) -> str:
    """The folder of the stage of that name."""
    return child(output, f"{STAGES}/{name}")

"""The worker that holds the scorers' models: decoded pixels become scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pipelines.clock import Clock
from pipelines.curation.settings import ScoreSettings
from pipelines.scorers.interface import ImageBatch
from pipelines.scorers.loading import load_scorers
from pipelines.scorers.settings import needs_model
from pipelines.worker import WorkerResult


class ModelWorker:
    """Runs the scorers that have weights, on this worker's GPU or the CPU where Ray gave it none."""

    def __init__(self, settings: ScoreSettings, digests: Mapping[str, str]) -> None:
        on_gpu = settings.models.num_gpus != 0 and torch.cuda.is_available()
        if settings.models.threads_per_actor is not None:
            torch.set_num_threads(settings.models.threads_per_actor)
        self.scorers = load_scorers(
            [one for one in settings.scorers if needs_model(one)],
            digests,
            torch.device("cuda" if on_gpu else "cpu"),
            settings.batch_size,
            getattr(torch, settings.dtype),
        )

    def process(self, rows: pa.Table) -> WorkerResult:
        """Rows of `DecodeWorker` -> the same, with the models' scores instead of `pixels`."""
        clock = Clock()
        batch = ImageBatch(pixels=_pixels(rows["pixels"]), captions=rows["caption"].to_pylist())
        table = rows.drop_columns(["pixels"])
        for scorer in self.scorers:
            with clock.measured(scorer.fields[0].name):
                columns = scorer.score(batch)
            for field in scorer.fields:
                table = table.append_column(field, columns[field.name])
        return WorkerResult(table=table, seconds=clock.seconds, events=dict(batch.events))


def _pixels(column: pa.ChunkedArray) -> list[NDArray[np.uint8]]:
    """uint8 [height, width, 3] of each row, without a copy."""
    images = []
    for value in column:
        height, width = value["height"].as_py(), value["width"].as_py()
        images.append(np.frombuffer(value["bytes"].as_buffer(), np.uint8).reshape(height, width, 3))
    return images

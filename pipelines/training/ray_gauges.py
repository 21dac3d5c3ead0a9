"""A tracker of experiments that keeps the newest measures as gauges in Ray's metrics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.metrics import show_training
from pipelines.run_labels import RunLabels
from pipelines.storage import Storage, without_options


class RayGauges:
    """Tells Prometheus how far the training is, for as long as the first worker lives.

    Args:
        storage: Of the stage: OUTPUT/stages/NAME.
    """

    def __init__(self, storage: Storage) -> None:
        output, _, self._stage = without_options(storage.uri).rstrip("/").rpartition("/stages/")
        self._labels = RunLabels.of("train", output)

    def write(self, step: int, measures: dict[str, float]) -> None:
        """See `Tracker`."""
        newest = {name.rpartition("/")[2]: value for name, value in measures.items()}
        if "step/loss" in measures or "rate/samples_per_s" in measures:
            show_training(self._labels, self._stage, newest | {"step": float(step)})

    def picture(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """See `Tracker`: gauges have none."""

    def flush(self) -> None:
        """See `Tracker`: Ray sends by itself."""

    def close(self) -> None:
        """See `Tracker`: Ray forgets a gauge when its process has ended."""

"""Trackers of experiments: TensorBoard; Weights & Biases and MLflow where they are installed."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorboardX
from numpy.typing import NDArray

from pipelines.errors import RefusalError
from pipelines.storage import Storage
from pipelines.training.ray_gauges import RayGauges
from pipelines.training.settings import LoggingSettings

TENSORBOARD = "tensorboard/"


class Tracker(Protocol):
    """Takes numbers and pictures by name."""

    def write(self, step: int, measures: dict[str, float]) -> None:
        """Measures of a step."""

    def picture(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """A picture of a step, RGB, uint8 [height, width, 3]."""

    def flush(self) -> None:
        """Make what was written visible."""

    def close(self) -> None:
        """The run ends."""


def open_trackers(
    settings: LoggingSettings, storage: Storage, first_step: int, run: str, config: dict[str, Any]
) -> list[Tracker]:
    """The trackers that the settings ask for.

    Args:
        settings: Which.
        storage: Of the stage.
        first_step: From which this run goes on.
        run: Its name, the same after a restart.
        config: To show with it.

    Raises:
        RefusalError: One is not installed.
    """
    trackers: list[Tracker] = [RayGauges(storage)]
    if settings.tensorboard:
        trackers.append(TensorBoard(storage, first_step))
    if settings.wandb_project is not None:
        trackers.append(WeightsAndBiases(settings.wandb_project, run, config))
    if settings.mlflow_uri is not None:
        trackers.append(MLflow(settings.mlflow_uri, run, config))
    return trackers


class TensorBoard:
    """Event files, written beside and copied to the storage whole: object storage cannot append."""

    def __init__(self, storage: Storage, first_step: int) -> None:
        self._storage = storage
        self._folder = tempfile.TemporaryDirectory(prefix="tensorboard-")
        self._writer = tensorboardX.SummaryWriter(
            self._folder.name, purge_step=first_step, filename_suffix=f".{first_step:08d}"
        )

    def write(self, step: int, measures: dict[str, float]) -> None:
        """See `Tracker`."""
        for name, value in measures.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """See `Tracker`."""
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        """See `Tracker`."""
        self._writer.flush()
        for file in Path(self._folder.name).iterdir():
            self._storage.write_file(f"{TENSORBOARD}{file.name}", file)

    def close(self) -> None:
        """See `Tracker`."""
        self._writer.close()
        self.flush()
        self._folder.cleanup()


class WeightsAndBiases:
    """A run of Weights & Biases; a restart goes on with it."""

    def __init__(self, project: str, run: str, config: dict[str, Any]) -> None:
        self._wandb = _installed("wandb", "logging.wandb_project")
        self._run = self._wandb.init(project=project, id=run, name=run, resume="allow", config=config)

    def write(self, step: int, measures: dict[str, float]) -> None:
        """See `Tracker`."""
        self._run.log(measures, step=step)

    def picture(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """See `Tracker`."""
        self._run.log({name: self._wandb.Image(pixels)}, step=step)

    def flush(self) -> None:
        """See `Tracker`: it sends by itself."""

    def close(self) -> None:
        """See `Tracker`."""
        self._run.finish()


class MLflow:
    """A run of an MLflow server, found again by its name after a restart."""

    def __init__(self, tracking_uri: str, run: str, config: dict[str, Any]) -> None:
        client = _installed("mlflow", "logging.mlflow_uri").MlflowClient(tracking_uri)
        experiment = client.get_experiment_by_name("meissonic")
        number = experiment.experiment_id if experiment else client.create_experiment("meissonic")
        found = client.search_runs([number], f"attributes.run_name = '{run}'")
        self._run = (found[0] if found else client.create_run(number, run_name=run)).info.run_id
        self._client = client
        if not found:
            client.log_dict(self._run, config, "config.json")

    def write(self, step: int, measures: dict[str, float]) -> None:
        """See `Tracker`."""
        for name, value in measures.items():
            self._client.log_metric(self._run, name, value, step=step, synchronous=False)

    def picture(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """See `Tracker`."""
        self._client.log_image(self._run, pixels, f"{name}-{step:08d}.png")

    def flush(self) -> None:
        """See `Tracker`: it sends by itself."""

    def close(self) -> None:
        """See `Tracker`."""
        self._client.set_terminated(self._run)


def _installed(package: str, setting: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RefusalError(
            f"{setting} needs the package {package} on the workers ({error}); install it there, or set null"
        ) from error

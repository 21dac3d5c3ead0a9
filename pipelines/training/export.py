"""Make a model folder of the released layout from a checkpoint, in one process, without a process group."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from meissonic import Meissonic
from meissonic.config import GenerationConfig, ScoreCondition
from meissonic.model_folder import CheckpointError, read_generation_config
from pipelines.errors import RefusalError
from pipelines.models import fetch_model, folder_digest
from pipelines.storage import open_storage
from pipelines.training.weights import TrainedWeights, WeightsName, read_weights

LAST_FILE = "model_index.json"
"""Its presence tells other programs that a folder is a model."""


class ExportError(RefusalError):
    """A checkpoint that cannot be exported, or a place where it cannot go."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model that was written.

    Attributes:
        checkpoint: URI of the record of the checkpoint that it was made from.
        folder: Where it is.
        digest: SHA-256 over the files that its loader reads, as jobs record it.
    """

    checkpoint: str
    folder: str
    digest: str


def export_checkpoint(
    uri: str, folder: str, weights: WeightsName = "average", dtype: torch.dtype | None = None
) -> Exported:
    """Write the model in a checkpoint as a folder of the released layout.

    The VQ model, the tokenizer, the scheduler and, where it was not trained, the text tower are those of the
    model that the training started from; its `generation_config.json` has the size of the training's images.

    Args:
        uri: Output of a `train` job (the last stage's newest checkpoint), its `stages/NAME` (that stage's
            newest), or `stages/NAME/checkpoints/step-00000100.json`.
        folder: A new folder, local or s3://; it is there when it is whole.
        weights: The averaged weights, or those of the last step.
        dtype: Of the weights; None leaves them as they are.

    Raises:
        RefusalError: There is no such checkpoint, it is damaged, or the folder is not empty.
    """
    with _place(folder) as local:
        trained = read_weights(uri, weights)
        init = fetch_model(trained.config["init"]["uri"], trained.config["init"]["digest"]).folder
        model = _assembled(trained, init)
        model.save_pretrained(local, dtype=dtype, generation=_generation(trained, init))
        digest = folder_digest(local)
    return Exported(checkpoint=trained.checkpoint, folder=folder, digest=digest)


def _assembled(trained: TrainedWeights, init: Path) -> Meissonic:
    try:
        model = Meissonic.from_pretrained(init, transformer=trained.new_transformer())
    except CheckpointError as error:
        raise ExportError(
            f"{trained.checkpoint}: its transformer does not fit the model that it started from: {error}"
        ) from error
    model.other_fields.pop("transformer", None)  # of the transformer that is in that model
    if text := trained.weights("text_encoder"):
        model.text_encoder.load_state_dict(text)
    return model


def _generation(trained: TrainedWeights, init: Path) -> GenerationConfig:
    width, height = trained.config["resolution"]
    score = trained.config["score_condition"]
    return GenerationConfig(
        width=width,
        height=height,
        sampler=read_generation_config(init).sampler,
        score=None if score is None else ScoreCondition.from_json(score),
    )


@contextmanager
def _place(folder: str) -> Iterator[Path]:
    """A local folder to write to; it becomes `folder` at the end, and is gone after an error."""
    if "://" in folder and not folder.startswith("file://"):
        yield from _remote_place(folder)
    else:
        yield from _local_place(Path(folder.removeprefix("file://")).expanduser())


def _local_place(target: Path) -> Iterator[Path]:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ExportError(f"{target}: is not an empty folder; name a new one")
    temporary = target.parent / f".{target.name}-{uuid.uuid4().hex}"
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remote_place(uri: str) -> Iterator[Path]:
    storage = open_storage(uri)
    if any(storage.list()):
        raise ExportError(f"{uri}: there are objects already; name a new folder")
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
        files = [
            file.relative_to(temporary).as_posix() for file in Path(temporary).rglob("*") if file.is_file()
        ]
        for name in sorted(files, key=lambda name: (name == LAST_FILE, name)):
            storage.write_file(name, Path(temporary) / name)

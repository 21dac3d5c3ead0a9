"""From settings to scorers: weights fetched to the node, models loaded once an actor, columns joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import torch

from pipelines.scorers.aesthetic import aesthetic_head
from pipelines.scorers.clip import ClipScorer
from pipelines.scorers.fetching import fetch_scorer
from pipelines.scorers.heads import HeadScorer, read_layers
from pipelines.scorers.hps import as_hps
from pipelines.scorers.interface import ImageBatch, Scorer
from pipelines.scorers.nsfw import nsfw_head
from pipelines.scorers.open_clip_models import (
    ClipModel,
    load_file,
    load_folder,
)
from pipelines.scorers.plain import plain_scorers
from pipelines.scorers.settings import (
    AestheticSettings,
    ClipSettings,
    HpsSettings,
    ModelSettings,
    ScorerSettings,
    WatermarkSettings,
    is_file,
)
from pipelines.scorers.state_dicts import load_state_dict
from pipelines.scorers.watermark import WatermarkScorer


def load_scorers(
    settings: Sequence[ScorerSettings],
    digests: Mapping[str, str],
    device: torch.device,
    batch_size: int,
    dtype: torch.dtype,
) -> list[Scorer]:
    """Load all scorers, in the order of the settings, in which they must run.

    Args:
        settings: A checked list (`Scorers`), or a part of it with all clip scorers that its heads name.
        digests: What `fetch_scorers` told.
        device: Of the models.
        batch_size: Images a batch.
        dtype: Of the models' weights; heads are always float32.

    Raises:
        ModelError: Weights cannot be fetched, have another digest, or do not fit their model or each other.
    """
    scorers: list[Scorer] = []
    clips: dict[str, ClipScorer] = {}
    for one in settings:
        if isinstance(one, ModelSettings):
            path, _ = fetch_scorer(one, digests[one.name])
            scorers.append(_load(one, path, clips, device, batch_size, dtype))
        else:
            scorers += plain_scorers([one])
    return scorers


def score_images(scorers: Sequence[Scorer], batch: ImageBatch) -> pa.RecordBatch:
    """The columns of all scorers for the images of a batch."""
    fields = [field for scorer in scorers for field in scorer.fields]
    columns: dict[str, pa.Array] = {}
    for scorer in scorers:
        columns |= scorer.score(batch)
    return pa.RecordBatch.from_arrays([columns[field.name] for field in fields], schema=pa.schema(fields))


def _load(
    settings: ModelSettings,
    path: Path,
    clips: dict[str, ClipScorer],
    device: torch.device,
    batch_size: int,
    dtype: torch.dtype,
) -> Scorer:
    fields = settings.fields()
    if isinstance(settings, ClipSettings | HpsSettings):
        model = _clip_model(settings, path, device, dtype)
        if isinstance(settings, HpsSettings):
            return ClipScorer(settings.name, fields, as_hps(model), batch_size)
        clips[settings.name] = ClipScorer(settings.name, fields, model, batch_size)
        return clips[settings.name]
    weights = load_state_dict(path, settings.weights)
    if isinstance(settings, WatermarkSettings):
        return WatermarkScorer(fields, weights, settings.weights, device, batch_size, dtype)
    width = clips[settings.clip].model.width
    layers = read_layers(weights, settings.weights, settings.clip, width, device)
    head = (
        aesthetic_head(layers)
        if isinstance(settings, AestheticSettings)
        else nsfw_head(layers, weights, settings.weights)
    )
    return HeadScorer(fields, head, settings.clip, device, batch_size)


def _clip_model(
    settings: ClipSettings | HpsSettings, path: Path, device: torch.device, dtype: torch.dtype
) -> ClipModel:
    if settings.architecture is not None and is_file(settings.model):
        return load_file(path, settings.model, settings.architecture, device, dtype)
    return load_folder(path, settings.model, device, dtype)

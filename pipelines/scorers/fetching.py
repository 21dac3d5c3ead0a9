"""Bring the weights of scorers to this node; nothing here loads a model, or imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from meissonic.model_folder import TOKENIZER_FILES
from pipelines.models import fetch_model
from pipelines.scorers.settings import ClipSettings, HpsSettings, ModelSettings, ScorerSettings, is_file
from pipelines.weights import fetch_weights_file

CONFIG_FILE = "open_clip_config.json"
WEIGHT_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
"""In the order in which open_clip looks for them."""
FOLDER_FILES = (CONFIG_FILE, *WEIGHT_FILES, *TOKENIZER_FILES, "tokenizer.json", "tokenizer.model")
"""What counts of a folder: on the hub there lie the same weights in other libraries' forms, too."""


def fetch_scorers(settings: Sequence[ScorerSettings]) -> dict[str, str]:
    """Fetch all weights to this node: the digest of each scorer's own, by the scorer's name.

    Raises:
        ModelError: Some cannot be fetched, or are others than the settings say.
    """
    digests = {}
    for one in settings:
        if isinstance(one, ClipSettings | HpsSettings) and is_file(one.model) and one.architecture:
            from pipelines.scorers.open_clip_models import architecture_config  # imports open_clip

            architecture_config(one.architecture)
        if isinstance(one, ModelSettings):
            digests[one.name] = fetch_scorer(one, one.sha256)[1]
    return digests


def fetch_scorer(settings: ModelSettings, expected: str | None) -> tuple[Path, str]:
    """Where the weights are on this node, and their digest."""
    if not isinstance(settings, ClipSettings | HpsSettings):
        file = fetch_weights_file(settings.weights, expected)
        return file.path, file.digest
    if is_file(settings.model):
        file = fetch_weights_file(settings.model, expected)
        return file.path, file.digest
    model = fetch_model(settings.model, expected, names=FOLDER_FILES)
    return model.folder, model.digest

"""The configurations in a model folder of the released layout, read without its weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from meissonic.config import (
    GenerationConfig,
    SamplerConfig,
    SchedulerConfig,
    ScoreCondition,
    TextConfig,
    TransformerConfig,
    VQConfig,
)

PARTS = ("transformer", "vqvae", "text_encoder", "tokenizer", "scheduler")
GENERATION_CONFIG = "generation_config.json"
"""Ours, optional: the size and sampler settings that suit the model."""
TOKENIZER_FILES = ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json")
WEIGHTS = {
    "transformer": "diffusion_pytorch_model.safetensors",
    "vqvae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
RELEASED_NAMES = (
    "model_index.json",
    GENERATION_CONFIG,
    "scheduler/scheduler_config.json",
    *(f"{part}/{name}" for part, weights in WEIGHTS.items() for name in ("config.json", weights)),
    *(f"tokenizer/{name}" for name in TOKENIZER_FILES),
)
"""The files that the loader looks at."""
VQ_NAMES = tuple(name for name in RELEASED_NAMES if name.startswith("vqvae/"))
RELEASED_SIDE = 1024
"""Pixels of the released model with compression; its sibling without has half."""


class CheckpointError(ValueError):
    """A folder that is no complete model: the message lists what is wrong."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfigs:
    """What the parts of a model are, without their weights; a model to be trained has no transformer yet."""

    transformer: TransformerConfig | None
    vq: VQConfig
    text: TextConfig
    scheduler: SchedulerConfig


def read_configs(folder: str | Path) -> ModelConfigs:
    """The configurations in a model folder; reads no weights.

    Raises:
        CheckpointError: one but the transformer's is missing or not complete.
    """
    folder = Path(folder)
    try:
        return ModelConfigs(
            transformer=TransformerConfig.from_json(read_json(folder, "transformer", "config.json"))
            if (folder / "transformer" / "config.json").is_file()
            else None,
            vq=VQConfig.from_json(read_json(folder, "vqvae", "config.json")),
            text=TextConfig.from_json(read_json(folder, "text_encoder", "config.json")),
            scheduler=SchedulerConfig.from_json(read_json(folder, "scheduler", "scheduler_config.json")),
        )
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from error


def read_generation_config(folder: str | Path) -> GenerationConfig:
    """The settings that suit a model: its `generation_config.json`, or what the released pipeline uses.

    Reads no weights.
    """
    folder = Path(folder)
    if (folder / GENERATION_CONFIG).is_file():
        values = read_json(folder, "", GENERATION_CONFIG)
        try:
            sampler = SamplerConfig.from_json(values)
            score = values.get("score")
            condition = None if score is None else ScoreCondition.from_json(score)
            return GenerationConfig.from_json(values | {"sampler": sampler, "score": condition})
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{folder / GENERATION_CONFIG}: {error}") from error
    transformer = read_configs(folder).transformer
    side = RELEASED_SIDE if transformer is None or transformer.downsample else RELEASED_SIDE // 2
    return GenerationConfig(width=side, height=side)


def read_json(folder: Path, part: str, name: str) -> dict[str, Any]:
    """The JSON object in a file of a model folder.

    Raises:
        CheckpointError: there is none.
    """
    path = folder / part / name
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; a model folder has {', '.join(PARTS)}") from error
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return values

"""A training small enough for tests: grids of 4x4 tokens, two blocks, the shapes world's text tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meissonic.model_folder import VQ_NAMES
from pipelines.config import build_config
from pipelines.models import PROJECT, folder_digest
from pipelines.training.job import stage_uri
from pipelines.training.logs import read_log
from pipelines.training.settings import TrainConfig
from tests.pipelines.training.made_tokens import Shard, write_tokens

INIT = str(PROJECT / "examples" / "shapes" / "model")
NUM_STEPS = 12


def vq_of_init(codebook_size: int = 256) -> dict[str, Any]:
    """What a token store says of the VQ model of the shapes world."""
    return {"digest": folder_digest(Path(INIT), VQ_NAMES), "factor": 8, "codebook_size": codebook_size}


def token_store(
    folder: Path | str,
    *,
    grid: tuple[int, int] = (4, 4),
    poisoned: int | None = None,
    codebook_size: int = 256,
    first_token: int = 0,
) -> str:
    """A token store of 40 samples in three shards, and 6 held-out ones.

    The score of the poisoned sample is not finite; tokens begin with `first_token`.
    """
    shards = [
        Shard(grid=grid, num_rows=rows, poisoned=poisoned, first_token=first_token) for rows in (16, 16, 8)
    ]
    held_out = Shard(grid=grid, num_rows=6, validation=True)
    return write_tokens(folder, [*shards, held_out], vq=vq_of_init(codebook_size))


def train_config(datasets: str, output: Path | str, *overrides: str, **values: Any) -> TrainConfig:
    """The tests' configuration, changed by overrides as on the command line."""
    transformer = {"num_layers": 1, "num_single_layers": 1, "axes_dims_rope": [8, 12, 12]}
    transformer |= {"attention_head_dim": 32, "num_attention_heads": 3}
    stage = {"datasets": [datasets], "num_steps": NUM_STEPS, "batch_size": 8, "learning_rate": 1e-3}
    settings = {
        "init": INIT,
        "output": str(output),
        "transformer": transformer,
        "stages": [stage],
        "precision": "float32",
        "seed": 5,
        "optimizer": {"average_decay": 0.9},
        "workers": {"num_gpus": 0, "num_cpus": 0.5, "threads": 1, "max_restarts": 2, "timeout_s": 60},
        "checkpoints": {"every_steps": 4, "keep_last": 99},
        "validation": {"every_steps": 6, "num_images": 6, "masking_rates": [0.5, 1.0]},
        "logging": {"every_steps": 2, "peak_flop_per_s": 1e9},
    }
    return build_config(TrainConfig, settings | values, overrides, "test")


def losses(output: Path | str, stage: str = "main") -> dict[int, float]:
    """The loss of each step."""
    lines = read_log(stage_uri(str(output), stage))
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "step"}

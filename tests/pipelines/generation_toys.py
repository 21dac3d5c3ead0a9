"""A tiny model's job, and prompt rows for its worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.config import Resources
from pipelines.generation_config import GenerateConfig, SamplerSettings, with_model_settings
from pipelines.generation_models import GenerationModels
from pipelines.generation_worker import GenerationWorker
from pipelines.images import encode_image
from pipelines.models import folder_digest
from pipelines.prompts import canonical

TINY = Path(__file__).parents[1] / "assets" / "golden" / "tiny"
CONFIG = GenerateConfig(
    prompts="p",
    model=str(TINY),
    output="o",
    model_id="tiny",
    batch_size=4,
    width=64,
    height=64,
    sampler=SamplerSettings(num_steps=3),
    resources=Resources(threads_per_actor=1),
)


def rows(**columns: Any) -> pa.Table:
    count = len(columns["prompt"])
    columns = {"prompt_id": [f"id-{i}" for i in range(count)]} | columns
    table = pa.table(columns)
    known = canonical(table, "test")
    for name in table.column_names:
        if name not in known.column_names:
            known = known.append_column(name, table[name])
    return known


def png(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return encode_image(pixels, "png", 95)


def tiny_worker(folder: Path = TINY, **settings: Any) -> GenerationWorker:
    asked = CONFIG.model_copy(update={"model": str(folder)} | settings)
    config = with_model_settings(asked, folder, "tiny")
    return GenerationWorker(
        config, GenerationModels(model_digest=folder_digest(folder), scorer_digests={}), "."
    )

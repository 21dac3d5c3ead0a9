"""Small token stores, written by hand: run.json, shards and a manifest, and a tokenizer of words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from meissonic.config import ScoreCondition
from pipelines.ledger import FORMAT as RUN_FORMAT
from pipelines.shards import parquet_bytes
from pipelines.storage import open_storage
from schemas.manifest import FORMAT, ObjectEntry, json_bytes
from schemas.tokens import shard_path, tokens_schema

CODEBOOK_SIZE = 64
VQ = {"digest": "a" * 64, "factor": 8, "codebook_size": CODEBOOK_SIZE}


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What a made shard has: samples whose number is in all their columns."""

    grid: tuple[int, int] = (2, 2)
    num_rows: int = 3
    num_alternatives: int = 0
    validation: bool = False
    poisoned: int | None = None
    """Number of the sample whose score is not finite."""
    first_token: int = 0


def write_tokens(
    folder: Path | str,
    shards: Sequence[Shard],
    *,
    vq: dict[str, Any] | None = None,
    score: ScoreCondition | None = None,
    job: str = "tokenize",
    finished: bool = True,
) -> str:
    """Write a token store; samples are numbered from 0 through all shards."""
    storage = open_storage(str(folder))
    entries, first = [], 0
    for number, shard in enumerate(shards):
        table = made_rows(shard, first)
        path, data = (
            shard_path(f"{number:05d}-ab", shard.grid, validation=shard.validation),
            parquet_bytes(table),
        )
        storage.write(path, data)
        entries.append(ObjectEntry.of(path, data, table.num_rows).to_json())
        first += shard.num_rows
    config = {"vq": vq or VQ, "score_condition": None if score is None else score.to_json()}
    run = {"job": job, "config": config, "row_id": "row_id", "unique_id": "token_id", "settings": {}}
    storage.write("run.json", json_bytes(run | {"format": RUN_FORMAT, "code_version": ""}))
    if finished:
        manifest = {"format": FORMAT, "job": job, "objects": entries, "failed": {"objects": []}}
        storage.write("manifest.json", json_bytes(manifest))
    return str(folder)


def made_rows(shard: Shard, first: int) -> pa.Table:
    """Sample n has tokens n, n + 1, … modulo the codebook, and n in its caption and micro-conditions."""
    height, width = shard.grid
    numbers = np.arange(first, first + shard.num_rows)
    tokens = shard.first_token + (numbers[:, None] + np.arange(height * width)) % CODEBOOK_SIZE
    values: dict[str, Any] = {
        "token_id": [f"r{n}#0" for n in numbers],
        "row_id": [f"r{n}" for n in numbers],
        "image_id": [f"{n:064x}" for n in numbers],
        "caption": [f"{n} own" for n in numbers],
        "captions": [[f"{n} other {k}" for k in range(shard.num_alternatives)] for n in numbers],
        "crop": [0] * len(numbers),
        "grid_height": [height] * len(numbers),
        "grid_width": [width] * len(numbers),
        "original_width": numbers + 1000,
        "original_height": numbers + 2000,
        "crop_top": numbers,
        "crop_left": numbers + 1,
        "score": np.where(numbers == shard.poisoned, np.nan, numbers / 8),
        "vq_digest": ["a" * 64] * len(numbers),
        "tokens": list(tokens.astype(np.uint16)),
    }
    schema = tokens_schema((height, width))
    return pa.table({f.name: pa.array(values[f.name], f.type) for f in schema}, schema=schema)


class WordTokenizer:
    """Ids of a text: its words' numbers, 1000 for "own" and 2000 for "other"."""

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        words = {"own": 1000, "other": 2000}
        rows = [[words.get(word) or int(word) for word in text.split()] for text in texts]
        return torch.tensor([row + [0] * (3 - len(row)) for row in rows])

"""The card of a token store names its grids, and Hugging Face loads each of them."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest

from pipelines.cards.tokens import write_card
from pipelines.shards import Shard, parquet_bytes
from pipelines.tokenization.settings import TokenizeConfig
from pipelines.tokenization.vq import VQFacts
from schemas.tokens import Grid, shard_path, tokens_schema
from tests.pipelines.cards.made_datasets import summary_of, write_run
from tests.pipelines.cards.reading_cards import cells_of, metadata_of, printed_by_programs


def shard(grid: Grid, count: int, *, validation: bool = False) -> Shard:
    schema = tokens_schema(grid)
    given = {"tokens": [np.zeros(grid[0] * grid[1], np.uint16)] * count, "captions": [["a"]] * count}
    values = {f.name: given.get(f.name, ["x" if f.type == pa.string() else 1] * count) for f in schema}
    path = shard_path("0-a", grid, validation=validation)
    return Shard(path=path, data=parquet_bytes(pa.table(values, schema=schema)), rows=count)


def test_each_grid_is_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "store"
    shards = [shard((2, 3), 2), shard((4, 4), 3), shard((4, 4), 1, validation=True)]
    ledger = write_run(folder, "tokenize", shards, "token_id")
    config = TokenizeConfig(input="in", output="out", model="m")
    write_card(ledger, config, VQFacts(digest="ab", factor=8, codebook_size=16), summary_of(6, 6, 6))
    text = (folder / "README.md").read_text()
    assert [one["config_name"] for one in metadata_of(text)["configs"]] == ["2x3", "4x4"]
    assert cells_of(text, "`tokens`")[2] == "VQ codes, in reading order"
    assert printed_by_programs(folder, monkeypatch) == ["6"] * 2
    found = datasets.load_dataset(str(folder), "4x4", cache_dir=str(tmp_path / ".hf"))
    assert {name: len(rows) for name, rows in found.items()} == {"train": 3, "validation": 1}

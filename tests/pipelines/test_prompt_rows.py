"""A row of an output becomes a row of a prompt table."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.prompt_rows import prompt_row
from schemas.prompts import PROMPTS
from tests.pipelines.made_generations import MadeGenerations


def test_a_generated_row_makes_its_image_again(tmp_path: Path) -> None:
    made = MadeGenerations(str(tmp_path), ["a fox", "eine Füchsin"], num_images=2).commit()
    shard = next(entry for entry in made.ledger.storage.list("data/"))
    row = pq.read_table(tmp_path / shard.path).to_pylist()[3]
    line = prompt_row(row | {"strength": 0.5}, is_generated=True)
    assert "Füchsin" in line
    assert "\n" not in line
    values = json.loads(line)
    assert (values["prompt"], values["seed"], values["num_images"]) == ("eine Füchsin", 1003, 1)
    assert values.keys() <= set(PROMPTS.names)
    assert not {"image", "mask", "strength", "sample_id", "clip"} & values.keys()
    assert None not in values.values()
    assert pa.Table.from_pylist([values], schema=PROMPTS).num_rows == 1


def test_a_scored_image_gives_its_caption_alone() -> None:
    assert json.loads(prompt_row({"caption": "a boat", "seed": 3}, is_generated=False)) == {
        "prompt": "a boat"
    }
    assert json.loads(prompt_row({"caption": None}, is_generated=False)) == {"prompt": ""}

"""The card of a training set says what was chosen and why, and how it is read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipelines.cards.settings import CardSettings
from pipelines.cards.training_set import read_selected, write_card
from pipelines.config import build_config
from pipelines.curation.settings import CurateConfig
from tests.pipelines.cards.made_datasets import summary_of, write_run
from tests.pipelines.cards.reading_cards import cells_of, metadata_of, printed_by_programs
from tests.pipelines.curation.test_export import Exported


def write_exported(tmp_path: Path, form: str) -> tuple[Path, Exported]:
    """A training set of nine images of ten, with its card."""
    exported = Exported(tmp_path, format=form)
    shards = [shard for group in exported.shards(rows=4) for shard in group]
    folder = tmp_path / "dataset"
    ledger = write_run(folder, "export", shards, "key")
    values = {
        "input": "in",
        "output": "out",
        "recipe": {"rules": []},
        "export": {"format": form},
        "card": CardSettings(license="cc-by-4.0"),
    }
    config = build_config(CurateConfig, values, [], "test")
    selected = read_selected(exported.chosen)
    write_card(ledger, config, {"clip": "ab" * 32}, selected, summary_of(9, 9, 9))
    return folder, exported


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_every_program_in_the_card_runs_in_the_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    folder, _ = write_exported(tmp_path, form)
    assert printed_by_programs(folder, monkeypatch) == ["9"] * (4 if form == "webdataset" else 3)


def test_the_card_says_what_was_chosen_by_which_recipe(tmp_path: Path) -> None:
    folder, exported = write_exported(tmp_path, "parquet")
    text = (folder / "README.md").read_text()
    assert "9 images with captions, chosen from 10 by a recipe" in text
    digest = hashlib.sha256((Path(exported.chosen) / "recipe.json").read_bytes()).hexdigest()
    assert cells_of(text, "recipe digest")[0].startswith(f"`{digest}`")
    assert cells_of(text, "scorer clip") == [f"`{'ab' * 32}`"]
    assert cells_of(text, r"key \<\> 'k2'") == ["1", "9"]
    assert cells_of(text, "that the recipe keeps") == ["9"]
    assert metadata_of(text)["license"] == "cc-by-4.0"


def test_sizes_before_and_after_are_told_apart(tmp_path: Path) -> None:
    folder, _ = write_exported(tmp_path, "parquet")
    text = (folder / "README.md").read_text()
    assert cells_of(text, "`width`")[2] == "pixels of the image as it was written"
    assert cells_of(text, "`original_width`")[2] == "pixels of the source's image, upright"

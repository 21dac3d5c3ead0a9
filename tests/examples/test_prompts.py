"""Prompt tables of the world, and contact sheets of what came out."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from examples.shapes import prompts
from examples.shapes.contact_sheet import RIGHT_RGB, WRONG_RGB, contact_sheet
from examples.shapes.drawing import draw
from examples.shapes.prompts import choose_scenes, prompt_table
from examples.shapes.verify import check
from examples.shapes.world import Scene, caption, split_of


def test_a_row_carries_the_scene_behind_its_prompt() -> None:
    table = prompt_table(choose_scenes("test", 20, two_object_share=0.5, seed=0))
    for row in table.to_pylist():
        scene = Scene.from_json(row["scene"])
        assert row["prompt"] == caption(scene)
        assert row["num_objects"] == len(scene.things)
        assert row["split"] == "test"
        assert check(draw(scene), scene).right
    assert len(set(table["prompt_id"].to_pylist())) == 20


def test_scenes_differ_until_the_pool_is_used_up() -> None:
    chosen = choose_scenes("unseen", 100, two_object_share=0.2, seed=3)
    assert len(set(chosen)) == 100
    assert sum(len(scene.things) == 2 for scene in chosen) == 20
    assert all(split_of(scene) == "unseen" for scene in chosen)


def test_the_same_seed_chooses_the_same_scenes() -> None:
    first, second, other = (choose_scenes("test", 30, two_object_share=0.5, seed=seed) for seed in (1, 1, 2))
    assert first == second != other


def test_the_command_writes_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "prompts.parquet"
    monkeypatch.setattr("sys.argv", ["prompts", "--out", str(path), "--count", "8"])
    prompts.main()
    assert pq.read_table(path).num_rows == 8


def test_a_contact_sheet_frames_right_and_wrong() -> None:
    scenes = choose_scenes("test", 2, two_object_share=0.0, seed=0)
    images = [draw(scenes[0]), draw(scenes[0])]
    verdicts = [check(image, scene) for image, scene in zip(images, scenes, strict=True)]
    sheet = np.asarray(contact_sheet(images, [caption(scene) for scene in scenes], verdicts, num_columns=2))
    half = sheet.shape[1] // 2
    assert (sheet[:, :half] == RIGHT_RGB).all(-1).any()
    assert (sheet[:, half:] == WRONG_RGB).all(-1).any()
    assert not (sheet[:, :half] == WRONG_RGB).all(-1).any()


def test_a_contact_sheet_needs_a_caption_an_image() -> None:
    with pytest.raises(ValueError, match="1 images, 0 captions"):
        contact_sheet([np.zeros((64, 64, 3), np.uint8)], [], [])

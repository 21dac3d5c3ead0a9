"""`tokenize` as a user runs it: images in, a token store out whose tokens look like the images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from examples.shapes.drawing import draw
from examples.shapes.verify import check
from examples.shapes.world import Scene, caption, scenes
from meissonic import Meissonic, Sampler, to_uint8
from pipelines.config import load_config
from pipelines.errors import LedgerError
from pipelines.storage import open_storage
from pipelines.tokenization import (
    TokenizationError,
    TokenizeConfig,
    open_tokenization_retry,
    plan_tokenization,
)
from pipelines.training.token_store import open_token_stores
from pipelines.verify import verify
from schemas.prompts import IMAGE

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("local_ray")]

MODEL = "examples/shapes/model"
COUNT = 12


def chosen() -> list[Scene]:
    everything = scenes("train", num_objects=1)
    return [
        everything[int(index)] for index in np.random.default_rng(0).integers(len(everything), size=COUNT)
    ]


def write_images(folder: Path) -> None:
    """Drawn scenes with scores and alternatives; the last two images are corrupt and too small."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    rows = []
    for number, scene in enumerate(chosen()):
        path = folder / "image.png"
        Image.fromarray(draw(scene, rng)).resize((128, 128)).save(path)
        rows.append({"image": {"bytes": path.read_bytes(), "path": None}, "caption": caption(scene)})
        rows[-1] |= {"hps_v2_1": 0.15 + number / 50 if number else None, "texts": [f"alternative {number}"]}
    Image.new("RGB", (32, 32)).save(path)
    small = {"image": {"bytes": path.read_bytes(), "path": None}, "caption": "small"}
    corrupt = {"image": {"bytes": b"no image", "path": None}, "caption": "corrupt"}
    path.unlink()
    fields = [("image", IMAGE), ("caption", pa.string()), ("hps_v2_1", pa.float64())]
    schema = pa.schema([*fields, ("texts", pa.list_(pa.string()))])
    pq.write_table(pa.Table.from_pylist([*rows, small, corrupt], schema), folder / "images.parquet")


def config(images: Path, output: Path, *overrides: str, model: str = MODEL) -> TokenizeConfig:
    places = [f"input={images}", f"output={output}", f"model={model}"]
    settings = ["resolution=64", "max_aspect=1", "unit_rows=5", "encoders.num_gpus=0", "captions=texts"]
    settings += ["croppers.num_actors=1", "encoders.num_actors=1"]
    small = ["crops_per_image=3", "score={column: hps_v2_1}", "validation_share=0.25", "batch_size=4"]
    return load_config(TokenizeConfig, None, [*places, *settings, *small, *overrides])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tokenize")
    write_images(folder / "images")
    summary = plan_tokenization(config(folder / "images", folder / "tokens")).open().run()
    assert (summary.rows_done, summary.rows_failed, summary.rows_out) == (COUNT, 2, 3 * COUNT)
    return folder / "images", folder / "tokens"


def rows_of(output: Path) -> list[dict[str, object]]:
    tables = [pq.read_table(path) for path in sorted((output / "data").iterdir())]
    return sorted(
        (row for table in tables for row in table.to_pylist()), key=lambda row: str(row["token_id"])
    )


def test_every_image_is_tokens_or_a_dead_letter(run: tuple[Path, Path]) -> None:
    _, output = run
    failed = [
        row for path in sorted((output / "failed").iterdir()) for row in pq.read_table(path).to_pylist()
    ]
    assert {(row["stage"], row["error_type"]) for row in failed} == {
        ("decode", "UnknownFormatError"),
        ("crop", "TooSmallError"),
    }
    assert not verify(str(output)).problems


def test_decoded_tokens_look_like_the_images(run: tuple[Path, Path]) -> None:
    _, output = run
    wholes = [row for row in rows_of(output) if row["crop"] == 0]
    model = Meissonic.from_pretrained(MODEL)
    tokens = torch.tensor([row["tokens"] for row in wholes]).view(-1, 8, 8)
    pixels = to_uint8(Sampler(model).decode(tokens, batch_size=len(tokens))).numpy()
    by_caption = {caption(scene): scene for scene in chosen()}
    verdicts = [
        check(image, by_caption[str(row["caption"])]) for image, row in zip(pixels, wholes, strict=True)
    ]
    assert sum(verdict.right for verdict in verdicts) >= COUNT - 1


def test_rows_have_their_micro_conditions_in_the_released_order(run: tuple[Path, Path]) -> None:
    _, output = run
    rows = rows_of(output)
    assert {row["crop"] for row in rows} == {0, 1, 2}
    assert {(row["original_width"], row["original_height"]) for row in rows} == {(128, 128)}
    assert all((row["crop_top"], row["crop_left"]) == (0, 0) for row in rows if row["crop"] == 0)
    assert any(row["crop_left"] for row in rows)
    # 0.15 to 0.35 became 1 to 10, and 0.28 stands for the image without a score
    scores = {round(float(str(row["score"])), 4) for row in rows}
    assert round(1 + 9 * 0.65, 4) in scores
    assert min(scores) == pytest.approx(1 + 9 * 0.1)
    assert all(len(row["captions"]) == 1 for row in rows)  # type: ignore[arg-type]


def test_the_trainer_reads_it_and_held_out_images_are_apart(run: tuple[Path, Path]) -> None:
    _, output = run
    store = open_token_stores([str(output)])
    assert (store.factor, store.codebook_size) == (8, 256)
    assert store.score is not None
    assert store.score.value(store.score.condition(0.3)) == pytest.approx(0.3)
    trained, held_out = (
        {row["image_id"] for block in blocks for row in pq.read_table(output / block.path).to_pylist()}
        for blocks in (store.blocks[8, 8], store.validation[8, 8])
    )
    assert len(trained | held_out) == COUNT
    assert not trained & held_out


def test_another_vq_model_is_another_token_store(run: tuple[Path, Path], tmp_path: Path) -> None:
    images, output = run
    other = tmp_path / "model"
    shutil.copytree(MODEL, other)
    path = other / "vqvae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sample_size": 64}))
    with pytest.raises(LedgerError, match=r"config\.vq\.digest"):
        plan_tokenization(config(images, output, model=str(other))).open()


def test_columns_that_are_not_there_are_refused_at_once(run: tuple[Path, Path], tmp_path: Path) -> None:
    images, _ = run
    with pytest.raises(
        TokenizationError, match="no column 'aesthetic_laion_v2'; columns are hps_v2_1, texts"
    ):
        plan_tokenization(config(images, tmp_path / "x", "score={column: aesthetic_laion_v2}"))
    with pytest.raises(TokenizationError, match="'hps_v2_1' is double, not a list of texts"):
        plan_tokenization(config(images, tmp_path / "x", "captions=hps_v2_1"))
    with pytest.raises(TokenizationError, match="resolution 72 is no multiple of 16"):
        plan_tokenization(config(images, tmp_path / "x", "resolution=72"))


@pytest.mark.reliability
def test_dead_letters_are_run_again_alone(run: tuple[Path, Path]) -> None:
    _, output = run
    summary = open_tokenization_retry(str(output)).run()
    assert summary.rows_failed == 2
    assert not verify(str(output)).problems
    assert open_storage(str(output)).exists("manifest.json")

"""The workers of `tokenize`, without Ray."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipelines.tokenization.buckets import Bucket
from pipelines.tokenization.crop_worker import CropWorker
from pipelines.tokenization.encode_worker import EncodeWorker
from pipelines.tokenization.packing import PackTokens
from pipelines.tokenization.settings import TokenizeConfig
from pipelines.tokenization.vq import vq_facts

MODEL = "examples/shapes/model"
BUCKETS = (Bucket(height=64, width=64), Bucket(height=48, width=80))


def config(**settings: Any) -> TokenizeConfig:
    return TokenizeConfig(input="in", output="out", model=MODEL, resolution=64, **settings)


def source_row(number: int, height: int = 96, width: int = 96, **columns: Any) -> dict[str, Any]:
    pixels: NDArray[np.uint8] = np.random.default_rng(number).integers(
        256, size=(height, width, 3), dtype=np.uint8
    )
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    faults = {"fault_stage": None, "fault_type": None, "fault_message": None}
    row = {"row_id": f"r{number}", "caption": f"image {number}", "encoded": buffer.getvalue()}
    return row | faults | columns


def crop(rows: list[dict[str, Any]], **settings: Any) -> tuple[pa.Table, list[tuple[int, str]]]:
    result = CropWorker(config(**settings), BUCKETS).process(pa.Table.from_pylist(rows))
    return result.table, [(letter.row, letter.stage) for letter in result.failed]


def test_an_image_without_a_caption_is_a_dead_letter() -> None:
    table, failed = crop([source_row(0), source_row(1, caption=None), source_row(2, caption=" ")])
    assert table["row_id"].to_pylist() == ["r0"]
    assert failed == [(1, "caption"), (2, "caption")]


def test_a_training_sets_own_image_id_stays() -> None:
    own = "ab" * 32
    table, _ = crop([source_row(0, image_id=own), source_row(1, image_id="17")])
    assert table["image_id"][0].as_py() == own
    assert len(table["image_id"][1].as_py()) == 64


def test_what_was_cut_off_before_counts_too() -> None:
    # the export had resized to 96 pixels and cut 12 off at the left; this crop is at two thirds of that
    row = source_row(0, original_width=400, original_height=300, crop_left=12, crop_top=0)
    table, _ = crop([row])
    assert (table["original_width"][0].as_py(), table["original_height"][0].as_py()) == (400, 300)
    assert table["crops"][0].as_py()[0]["left"] == 8


@pytest.mark.slow
def test_croppers_do_not_wait_for_torch() -> None:
    code = "import sys, pipelines.tokenization.crop_worker; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("size", [None, "wide", -3])
def test_sizes_that_make_no_sense_are_left_out(size: Any) -> None:
    table, _ = crop([source_row(0, original_width=size, original_height=300)])
    assert (table["original_width"][0].as_py(), table["original_height"][0].as_py()) == (96, 96)


def test_buckets_of_a_unit_come_back_in_the_rows_order() -> None:
    worker = EncodeWorker(config(crops_per_image=2, batch_size=3), vq_facts(MODEL))
    rows = [source_row(0), source_row(1, 96, 160), source_row(2)]
    table = worker.process(crop(rows, crops_per_image=2)[0]).table
    assert table["token_id"].to_pylist() == ["r0#0", "r0#1", "r1#0", "r1#1", "r2#0", "r2#1"]
    sizes = list(zip(table["grid_height"].to_pylist(), table["grid_width"].to_pylist(), strict=True))
    assert sizes == [(8, 8)] * 2 + [(6, 10)] * 2 + [(8, 8)] * 2
    alone = worker.process(crop(rows[2:], crops_per_image=2)[0]).table
    assert alone["tokens"].to_pylist() == table["tokens"].to_pylist()[4:]


class _UnitId:
    id = "00000000-ab"


def test_each_grid_has_a_shard_and_held_out_images_another() -> None:
    worker = EncodeWorker(config(batch_size=3), vq_facts(MODEL))
    rows = [source_row(n, 96, 160 if n % 2 else 96) for n in range(12)]
    table = worker.process(crop(rows)[0]).table
    shards = PackTokens(validation_share=0.5)(_UnitId(), table)  # type: ignore[arg-type]
    grids = {shard.path.split(".")[1] for shard in shards}
    assert grids == {"8x8", "6x10"}
    assert {shard.path.split(".")[2] for shard in shards} == {"parquet", "validation"}
    assert sum(shard.rows for shard in shards) == 12


def test_latents_that_are_not_finite_fail_their_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = EncodeWorker(config(crops_per_image=2, batch_size=4), vq_facts(MODEL))
    latents = worker.model.latents

    def poisoned(pixels: torch.Tensor) -> torch.Tensor:
        found = latents(pixels)
        found[3] = torch.nan  # the second crop of the second image
        return found

    monkeypatch.setattr(worker.model, "latents", poisoned)
    result = worker.process(crop([source_row(0), source_row(1)], crops_per_image=2)[0])
    assert result.table["row_id"].to_pylist() == ["r0", "r0"]
    assert [(letter.row, letter.stage) for letter in result.failed] == [(1, "encode")]


def test_memory_that_runs_out_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = EncodeWorker(config(batch_size=4), vq_facts(MODEL))
    table = crop([source_row(n) for n in range(4)])[0]
    expected = worker.process(table).table
    latents = worker.model.latents

    def small(pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return latents(pixels)

    monkeypatch.setattr(worker.model, "latents", small)
    result = worker.process(table)
    assert result.table.equals(expected)
    assert result.events == {"out of memory at 64x64, batch 4": 1}


def test_bfloat16_gives_nearly_the_same_codes() -> None:
    table = crop([source_row(n) for n in range(4)])[0]
    exact = EncodeWorker(config(), vq_facts(MODEL)).process(table).table
    half = EncodeWorker(config(dtype="bfloat16"), vq_facts(MODEL)).process(table).table
    both = [np.concatenate(t["tokens"].to_pylist()) for t in (exact, half)]
    assert (both[0] == both[1]).mean() > 0.8

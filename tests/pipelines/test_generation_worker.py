"""The worker of `generate`, without Ray: rows in, images and dead letters out."""

from __future__ import annotations

import copy
import io
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from meissonic import SamplerConfig, SampleRequest, to_uint8
from pipelines import generation_worker
from pipelines.generation_config import SamplerSettings, with_own
from pipelines.generation_results import token_column
from pipelines.generation_worker import GenerationWorker
from pipelines.images import RowImages, encode_image, image_id
from schemas.generations import generations_schema
from tests.pipelines.generation_toys import png, rows, tiny_worker
from tests.servers.web import answer, redirect, serving


@pytest.fixture(scope="module")
def worker() -> GenerationWorker:
    return tiny_worker()


def test_every_image_has_what_makes_it_again(worker: GenerationWorker) -> None:
    result = worker.process(rows(prompt=["a cat", "a dog"], num_images=[2, 1], note=["x", "y"]))
    table = result.table
    assert result.failed == []
    assert table.schema.equals(
        generations_schema(
            tokens=True, scores=[], ranks=False, passed_through=[pa.field("note", pa.string())]
        )
    )
    assert table["prompt_id"].to_pylist() == ["id-0", "id-0", "id-1"]
    assert table["sample_index"].to_pylist() == [0, 1, 0]
    assert table["note"].to_pylist() == ["x", "x", "y"]
    assert len(set(table["sample_id"].to_pylist())) == 3
    for row in table.to_pylist():
        request = SampleRequest(
            prompt=row["prompt"],
            seed=row["seed"],
            width=row["width"],
            height=row["height"],
            score=row["score"],
            config=generation_worker.sampler_config(worker.config.sampler, row),
        )
        ((_, tokens),) = worker.sampler.sample([request], batch_size=4)
        assert tokens[0].tolist() == row["tokens"]
        pixels = to_uint8(worker.sampler.decode(tokens, batch_size=4))[0].numpy()
        assert np.array_equal(np.array(Image.open(io.BytesIO(row["image"]["bytes"]))), pixels)


def test_rows_are_the_same_alone_and_together(worker: GenerationWorker) -> None:
    table = rows(prompt=[f"prompt {i}" for i in range(6)], width=[64, 128, 64, 64, 128, 64])
    together = worker.process(table).table
    apart = pa.concat_tables(worker.process(table.slice(i, 1)).table for i in range(6))
    assert together.equals(apart)


def test_settings_of_a_row_win_over_the_jobs(worker: GenerationWorker) -> None:
    table = worker.process(
        rows(
            prompt=["a", "b"],
            seed=[5, None],
            width=[128, None],
            num_steps=[2, None],
            guidance_scale=[1.0, None],
            temperature=[0.5, None],
            score=[8.5, None],
            negative_prompt=["blurry", None],
        )
    ).table
    first, second = table.to_pylist()
    given = ("seed", "width", "height", "num_steps", "guidance_scale", "temperature", "score")
    assert [first[n] for n in given] == [5, 128, 64, 2, 1.0, 0.5, 8.5]
    assert [second[n] for n in given[1:]] == [64, 64, 3, 9.0, 2.0, 6.0]
    assert (first["negative_prompt"], second["negative_prompt"]) == ("blurry", "")


def test_approximations_are_on_record_and_make_other_samples(worker: GenerationWorker) -> None:
    table = rows(prompt=["a"])
    exact = worker.process(table).table
    assert exact["approximations"].to_pylist() == [None]
    settings = SamplerSettings(num_steps=3, unmasking="halton", guidance_interval=(0.5, 1.0))
    approximate = tiny_worker(sampler=settings).process(table).table
    assert json.loads(approximate["approximations"][0].as_py()) == {
        "guidance_interval": [0.5, 1.0],
        "unmasking": "halton",
    }
    assert approximate["sample_id"] != exact["sample_id"]


def test_the_fast_preset_goes_by_the_models_own_steps_and_what_is_set_beside_it_wins() -> None:
    own = SamplerConfig(num_steps=48)
    fast = with_own(SamplerSettings(preset="fast"), own)
    assert (fast.num_steps, fast.unmasking) == (12, "halton")
    fewer = with_own(SamplerSettings(preset="fast", num_steps=3, unmasking="confidence"), own)
    assert (fewer.num_steps, fewer.unmasking, fewer.softmax_temperature) == (3, "confidence", 0.5)


def test_rows_that_cannot_be_made_become_dead_letters_and_the_rest_goes_on(worker: GenerationWorker) -> None:
    faults: list[tuple[dict[str, Any], str, str]] = [
        ({"prompt": ""}, "prompt", "the prompt is empty"),
        ({"prompt": "  \n"}, "prompt", "the prompt is empty"),
        ({"prompt": None}, "prompt", "the prompt is empty"),
        ({"num_images": 0}, "prompt", "num_images is 0"),
        ({"num_steps": 0}, "prompt", "num_steps is 0"),
        ({"width": 65}, "prompt", "width is 65"),
        ({"height": -64}, "prompt", "height is -64"),
        ({"width": 2**30}, "prompt", "max_side is 4096"),
        ({"seed": -1}, "prompt", "seed is -1"),
        ({"guidance_scale": float("nan")}, "prompt", "guidance_scale is nan"),
        ({"score": float("nan")}, "prompt", "score is nan; it must be a finite number"),
        ({"score": float("-inf")}, "prompt", "score is -inf; it must be a finite number"),
        ({"temperature": -1.0}, "prompt", "temperature is"),
        ({"strength": 0.5}, "prompt", "without an image"),
        ({"mask": png(64, 64)}, "prompt", "without an image"),
        ({"image": b"garbage"}, "image", "cannot decode"),
        ({"image": png(64, 64), "strength": 2.0}, "prompt", "strength is 2.0"),
        ({"image": png(64, 64), "mask": b"garbage"}, "image", "cannot decode"),
        (
            {"image": png(64, 64), "mask": encode_image(np.zeros((8, 8, 3), np.uint8), "png", 9)},
            "prompt",
            "mask",
        ),
    ]
    names = {name for fault, _, _ in faults for name in fault}
    good = {"prompt": "fine", **dict.fromkeys(names - {"prompt"})}
    table = [good] + [good | fault for fault, _, _ in faults] + [good]
    result = worker.process(rows(**{name: [row[name] for row in table] for name in good}))
    assert result.table["prompt_id"].to_pylist() == ["id-0", f"id-{len(faults) + 1}"]
    assert [letter.row for letter in result.failed] == list(range(1, len(faults) + 1))
    for letter, (_, stage, message) in zip(result.failed, faults, strict=True):
        assert (letter.stage, message in letter.message) == (stage, True), letter


def test_start_images_and_masks(worker: GenerationWorker) -> None:
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, 32:] = 255
    result = worker.process(
        rows(
            prompt=["a", "b", "c"],
            image=[png(64, 64), png(32, 32), None],
            mask=[encode_image(half, "png", 9), None, None],
            strength=[None, 0.7, None],
        )
    )
    assert result.failed == []
    inpainted, varied, plain = result.table.to_pylist()
    start = torch.from_numpy(np.array(Image.open(io.BytesIO(png(64, 64))))).permute(2, 0, 1) / 255
    codes = worker.model.vq.encode(start[None])[0]
    width = codes.shape[1] // 2
    assert np.array_equal(np.array(inpainted["tokens"])[:, :width], codes[:, :width].numpy())
    assert (inpainted["strength"], varied["strength"], plain["strength"]) == (None, 0.7, None)
    assert inpainted["source_image_id"] is not None
    assert inpainted["source_mask_id"] is not None
    assert (varied["source_mask_id"], plain["source_image_id"]) == (None, None)


def test_start_images_come_from_the_web_too(worker: GenerationWorker) -> None:
    local = copy.copy(worker)
    local.config = worker.config.model_copy(update={"row_images": RowImages(allow_private=True)})
    answers = {
        "/a.png": answer(png(64, 64)),
        "/metadata.png": redirect("http://169.254.169.254/latest/meta-data"),
        "/page.png": answer(b"<html>"),
    }
    with serving(answers) as server:
        paths = [f"{server.url}{path}" for path in answers]
        table = rows(prompt=["a", "b", "c"], image=paths, strength=[0.7] * 3)
        result = local.process(table)
        refused = worker.process(table)
    assert result.table["source_image_id"].to_pylist() == [image_id(png(64, 64))]
    assert [(letter.row, letter.stage, letter.error_type) for letter in result.failed] == [
        (1, "image", "ImageError"),
        (2, "image", "UnknownFormatError"),
    ]
    assert result.failed[0].message.startswith(f"{paths[1]}: redirected: its host has a link-local")
    assert all("private address" in letter.message for letter in refused.failed)
    assert len(refused.failed) == 3


def test_memory_that_runs_out_halves_the_batch(
    worker: GenerationWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = rows(prompt=[f"prompt {i}" for i in range(5)])
    expected = worker.process(table).table
    sizes: list[int] = []

    sample = worker.sampler.sample

    def scarce(requests: Any, *, batch_size: int) -> Iterator[Any]:
        sizes.append(batch_size)
        for number, item in enumerate(sample(requests, batch_size=batch_size)):
            if batch_size > 1 and number:
                raise torch.OutOfMemoryError("no memory")
            yield item

    monkeypatch.setattr(worker.sampler, "sample", scarce)
    monkeypatch.setattr(worker, "batch_sizes", {})
    result = worker.process(table)
    assert sizes == [4, 2]
    assert result.failed == []
    assert result.table["sample_id"].equals(expected["sample_id"])
    assert result.events == {"out of memory at 64x64, batch 4": 1}

    # what fits is remembered for this shape, and for no other
    sizes.clear()
    assert worker.process(rows(prompt=["a", "b"], height=[64, 128])).events == {}
    assert sizes == [2, 4]


def test_an_image_that_never_fits_is_named(worker: GenerationWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_at_all(requests: Any, *, batch_size: int) -> Iterator[Any]:
        raise torch.OutOfMemoryError("tried to allocate 3.14 GiB")
        yield

    monkeypatch.setattr(worker.sampler, "sample", none_at_all)
    monkeypatch.setattr(worker, "batch_sizes", {})
    with pytest.raises(MemoryError, match="no memory for one image of 64x64"):
        worker.process(rows(prompt=["a"]))


def test_a_broken_device_ends_the_process(worker: GenerationWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    def ended(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(worker.sampler, "sample", broken)
    monkeypatch.setattr(os, "_exit", ended)
    with pytest.raises(SystemExit, match="70"):
        worker.process(rows(prompt=["a"]))


def test_logits_that_are_not_finite_fail_their_row_only(
    worker: GenerationWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = worker.model.text_encoder.forward

    def poisoned(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, pooled = encode(ids)
        bad = (ids == worker.model.tokenizer(["poison"])).all(1)
        return hidden.masked_fill(bad[:, None, None], torch.nan), pooled

    monkeypatch.setattr(worker.model.text_encoder, "forward", poisoned)
    result = worker.process(rows(prompt=["a cat", "poison", "a dog"]))
    assert result.table["prompt"].to_pylist() == ["a cat", "a dog"]
    assert [(letter.row, letter.stage) for letter in result.failed] == [(1, "sample")]


def test_no_rows_at_all_give_an_empty_table_of_the_same_schema(worker: GenerationWorker) -> None:
    result = worker.process(rows(prompt=[""]))
    assert result.table.num_rows == 0
    assert result.table.schema.equals(
        generations_schema(tokens=True, scores=[], ranks=False, passed_through=[])
    )


def test_token_grids_of_any_sizes_become_lists_of_rows() -> None:
    grids = [np.arange(6, dtype=np.uint16).reshape(2, 3), np.array([[7]], np.uint16)]
    assert token_column(grids).to_pylist() == [[[0, 1, 2], [3, 4, 5]], [[7]]]
    assert token_column([]).to_pylist() == []


def test_a_column_named_tokens_passes_through_where_the_grids_are_not_kept(worker: GenerationWorker) -> None:
    without = copy.copy(worker)
    without.config = worker.config.model_copy(update={"tokens": False})
    assert without.process(rows(prompt=["a"], tokens=[7])).table["tokens"].to_pylist() == [7]

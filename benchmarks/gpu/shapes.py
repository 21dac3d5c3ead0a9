"""A shapes model of middle size on the trainer: steps/s, and how often its images show their caption.

Images are drawn and tokenized on the spot. A few steps tell the rate, and so how many fill the time.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import torch
import torch.nn.functional as F

from benchmarks.alignment import MODEL, SETS, summary
from benchmarks.gpu.scale import Scale, main_model
from benchmarks.timing import significant
from examples.shapes.chain import tokenize, train
from examples.shapes.generate import generate
from examples.shapes.images import ImageSet, write_images
from examples.shapes.parts import write_parts
from examples.shapes.prompts import choose_scenes
from examples.shapes.verify import Verdict, check
from examples.shapes.world import caption, spoken
from jobs.ray_session import connect
from meissonic import Meissonic
from meissonic.text import TextEncoder
from pipelines.training.export import export_checkpoint
from pipelines.training.logs import read_log

TRAIN = (
    "precision=bfloat16",
    "optimizer.average_decay=0.999",
    "checkpoints.every_steps=1000000",
    "validation.every_steps=null",
    "logging.tensorboard=false",
)
TWO_OBJECT_SHARE = 0.4
SEED = 7


def measure(scale: Scale, device: str) -> dict[str, Any]:
    """Everything in a temporary folder."""
    main_model.cache_clear()  # workers need the memory
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
    started = not ray.is_initialized()
    if started:
        connect()
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _run(scale, device, Path(folder), num_gpus=int(on_gpu))
    finally:
        if started:
            ray.shutdown()


def _run(scale: Scale, device: str, folder: Path, num_gpus: int) -> dict[str, Any]:
    given = Meissonic.from_pretrained(MODEL)
    text_encoder = _widened(given.text_encoder, scale.shapes_width)
    write_parts(folder / "parts", given.vq, text_encoder, given.tokenizer)
    drawn = ImageSet(num_images=scale.shapes_images, two_object_share=TWO_OBJECT_SHARE, num_copies=0)
    write_images(folder / "raw", drawn)
    began = time.monotonic()
    tokenize(folder / "raw", folder / "parts", folder / "tokens", [f"encoders.num_gpus={num_gpus}"])
    tokenized_s = time.monotonic() - began
    probe = _trained(scale, folder, "probe", scale.shapes_probe_steps, num_gpus)
    num_steps = max(round(probe["steps_per_s"] * scale.shapes_train_s), scale.shapes_probe_steps)
    training = _trained(scale, folder, "training", num_steps, num_gpus)
    export_checkpoint(str(folder / "training"), str(folder / "model"))
    model = Meissonic.from_pretrained(folder / "model", device=device)
    return {
        "num_gpus": num_gpus,
        "images": scale.shapes_images,
        "tokenize_s_with_start_of_actors": significant(tokenized_s),
        "transformer": model.transformer.config.to_json(),
        "parameters": sum(weight.numel() for weight in model.transformer.parameters()),
        "batch_size": scale.shapes_batch_size,
        "training": training,
        "alignment": _alignment(model, scale.shapes_captions),
    }


def _widened(encoder: TextEncoder, width: int) -> TextEncoder:
    """The same text tower with zeros after its pooled output, which is as wide as the transformer."""
    config = dataclasses.replace(encoder.config, projection_dim=width)
    state = encoder.state_dict()
    projection = state["tower.text_projection"]
    state["tower.text_projection"] = F.pad(projection, (0, width - projection.shape[1]))
    wide = TextEncoder(config)
    wide.load_state_dict(state)
    return wide


def _trained(scale: Scale, folder: Path, name: str, num_steps: int, num_gpus: int) -> dict[str, Any]:
    """Train a new model for so many steps; gives rates, without the first of them, and losses."""
    sizes = (
        f"stages.0.num_steps={num_steps}",
        f"stages.0.batch_size={scale.shapes_batch_size}",
        f"workers.num_gpus={num_gpus}",
    )
    began = time.monotonic()
    train(folder / "tokens", folder / "parts", folder / name, (*TRAIN, *scale.shapes_train, *sizes))
    elapsed = time.monotonic() - began
    lines = list(read_log(str(folder / name / "stages/main")))
    losses = [line["loss"] for line in lines if line["kind"] == "step"]
    rates = [line for line in lines if line["kind"] == "rate"]
    settled = rates[1:] or rates  # compilation is in the first
    samples_per_s = statistics.median(line["samples_per_s"] for line in settled)
    tenth = max(len(losses) // 10, 1)
    return {
        "num_steps": num_steps,
        "elapsed_s_with_start_of_workers": significant(elapsed),
        "steps_per_s": significant(samples_per_s / scale.shapes_batch_size),
        "samples_per_s": significant(samples_per_s),
        "utilisation": significant(statistics.median(line["utilisation"] for line in settled)),
        "data_wait": significant(statistics.median(line["data_wait"] for line in settled)),
        "loss_first_tenth": significant(statistics.fmean(losses[:tenth])),
        "loss_last_tenth": significant(statistics.fmean(losses[-tenth:])),
    }


def _alignment(model: Meissonic, most: int) -> dict[str, Any]:
    """Shares of right images by set of captions and number of shapes."""
    found: dict[str, Any] = {}
    for name, (split, *counts) in SETS.items():
        for num_objects, count in zip((1, 2), counts, strict=True):
            chosen = choose_scenes(split, min(count, most), two_object_share=num_objects - 1.0, seed=SEED)
            scenes = [spoken(scene) for scene in chosen]
            images = generate(
                model, [caption(scene) for scene in scenes], seeds=range(SEED, SEED + len(scenes))
            )
            verdicts: list[Verdict] = [
                check(image, scene) for image, scene in zip(images, scenes, strict=True)
            ]
            found[f"{name}_{num_objects}"] = summary(verdicts)
    return found

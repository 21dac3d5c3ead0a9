"""Scoring by CLIP image towers, from decoded pixels to embeddings: images/s, share of the dense rate, memory.

Random weights of open_clip's ViT-L-14, the backbone of LAION's predictors, and of ViT-H-14, that of HPS v2.1,
in folders of open_clip's form; by precision.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.memory import peak_memory, unless_out_of_memory
from benchmarks.gpu.scale import Scale
from benchmarks.matmul import SquareProduct
from benchmarks.timing import interleaved, ratios, significant, spread
from pipelines.scorers.fetching import CONFIG_FILE, WEIGHT_FILES, fetch_scorers
from pipelines.scorers.interface import ImageBatch
from pipelines.scorers.loading import load_scorers
from pipelines.scorers.open_clip_models import ClipModel
from pipelines.scorers.settings import ClipSettings

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SIDES = ((448, 640), (640, 448), (512, 512))
"""Heights and widths as decoders hand them on."""


def measure(scale: Scale, device: str) -> dict[str, Any]:
    """Each model in each precision on the same images; how near its embeddings are to those of float32."""
    return {name: _by_precision(config, scale, device) for name, config in scale.clips}


def _by_precision(config: str, scale: Scale, device: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        _save(Path(folder), config)
        rng = np.random.default_rng(0)
        images = [
            rng.integers(0, 256, (*SIDES[n % len(SIDES)], 3), dtype=np.uint8)
            for n in range(scale.clip_images)
        ]
        exact = _embeddings(folder, images, device, torch.float32, scale.clip_batch_size)
        return {
            name: unless_out_of_memory(partial(_at, folder, images, exact, scale, device, dtype))
            for name, dtype in PRECISIONS.items()
        }


def _at(
    folder: str,
    images: list[np.ndarray[Any, np.dtype[np.uint8]]],
    exact: np.ndarray[Any, np.dtype[np.float32]],
    scale: Scale,
    device: str,
    dtype: torch.dtype,
) -> dict[str, Any]:
    scorer = _scorer(folder, device, dtype, scale.clip_batch_size)
    score = partial(_score, scorer, images)
    memory = peak_memory(device, score)
    found = score()
    product = SquareProduct(max(scale.matmul_sizes), dtype, device, products=scale.matmul_products)
    arms: dict[str, Callable[[], object]] = {"score": score, "matmul": product}
    wall = interleaved(arms, repetitions=scale.repetitions, device=device).wall
    seconds, flops = wall["score"], len(images) * _flops(scorer.model)
    return memory | {
        "seconds": spread(seconds),
        "images_per_s": spread([len(images) / s for s in seconds]),
        "gflop_per_image": significant(flops / len(images) / 1e9),
        "fraction_of_matmul_rate": spread(
            ratios([flops / s for s in seconds], [product.flops / s for s in wall["matmul"]])
        ),
        "least_cosine_to_float32": float((found * exact).sum(axis=1).min()),
    }


def _flops(model: ClipModel) -> int:
    """Of the image tower for one image."""
    side = model.preprocessing.height, model.preprocessing.width
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.embed_images(torch.zeros(1, 3, *side, device=model.device, dtype=model.dtype))
    return counter.get_total_flops()


def _scorer(folder: str, device: str, dtype: torch.dtype, batch_size: int) -> Any:
    settings = [ClipSettings(kind="clip", name="clip", model=folder)]
    return load_scorers(settings, fetch_scorers(settings), torch.device(device), batch_size, dtype)[0]


def _score(scorer: Any, images: list[np.ndarray[Any, np.dtype[np.uint8]]]) -> np.ndarray[Any, Any]:
    batch = ImageBatch(pixels=images, captions=[None] * len(images))
    scorer.score(batch)
    return batch.shared["clip"]


def _embeddings(
    folder: str,
    images: list[np.ndarray[Any, np.dtype[np.uint8]]],
    device: str,
    dtype: torch.dtype,
    batch_size: int,
) -> np.ndarray[Any, Any]:
    return _score(_scorer(folder, device, dtype, batch_size), images)


def _save(folder: Path, config: str) -> None:
    """A model of random weights in open_clip's form."""
    model: dict[str, Any] = open_clip.get_model_config(config) or json.loads(config)
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**model).state_dict(), folder / WEIGHT_FILES[0])
    (folder / CONFIG_FILE).write_text(json.dumps({"model_cfg": model}))

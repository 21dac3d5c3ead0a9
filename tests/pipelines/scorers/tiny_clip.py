"""A CLIP of random weights, in the forms in which real ones come, and images that look a little natural."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from meissonic.model_folder import TOKENIZER_FILES
from pipelines.scorers.interface import ImageBatch

TOKENIZER = Path(__file__).parents[2] / "assets" / "golden" / "tiny" / "tokenizer"
ARCHITECTURE = "tiny-test-clip"
"""Known to open_clip once `save_architecture` was called."""
WIDTH = 16


def model_config(*, own_tokenizer: bool) -> dict[str, Any]:
    text: dict[str, Any] = {"context_length": 77, "width": 32, "heads": 2, "layers": 2}
    text |= {"vocab_size": 610, "hf_tokenizer_name": "tiny"} if own_tokenizer else {"vocab_size": 49408}
    return {
        "embed_dim": WIDTH,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": text,
    }


def random_model(*, own_tokenizer: bool) -> open_clip.CLIP:
    torch.manual_seed(0)
    config = model_config(own_tokenizer=own_tokenizer)
    config["text_cfg"].pop("hf_tokenizer_name", None)
    return open_clip.CLIP(**config)


def save_folder(folder: Path) -> Path:
    """In open_clip's form, with a tokenizer of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(random_model(own_tokenizer=True).state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": model_config(own_tokenizer=True)}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    for name in TOKENIZER_FILES:
        shutil.copy(TOKENIZER / name, folder / name)
    return folder


def save_architecture(folder: Path) -> None:
    """Make ARCHITECTURE one that open_clip knows, for weights in files."""
    path = folder / f"{ARCHITECTURE}.json"
    path.write_text(json.dumps(model_config(own_tokenizer=False)))
    open_clip.add_model_config(path)


def natural(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth shapes with a little noise: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float64)
    return (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)


def batch_of(*images: NDArray[np.uint8], captions: list[str | None] | None = None) -> ImageBatch:
    return ImageBatch(pixels=images, captions=captions or [None] * len(images))

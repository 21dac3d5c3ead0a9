"""CLIP models of open_clip: from a folder in its form, or a file of weights for one of its architectures."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from meissonic.model_folder import TOKENIZER_FILES
from meissonic.text import Tokenizer
from pipelines.models import ModelError
from pipelines.scorers.fetching import CONFIG_FILE, WEIGHT_FILES
from pipelines.scorers.preprocessing import Preprocessing
from pipelines.scorers.state_dicts import fill, load_state_dict

PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
"""open_clip's names; its layer norms stay in float32, as those of OpenAI do."""
DEFAULT_CONTEXT_LENGTH = 77


@dataclass(frozen=True, kw_only=True)
class ClipModel:
    """A model on its device, and what goes with it.

    Attributes:
        model: Image and text towers, a module with `encode_image` and `encode_text`.
        tokenizer: Texts -> ids int64 [B, L].
        preprocessing: Of images.
        width: Of an embedding, D.
        device: Where the model is.
        dtype: Of its weights but for the norms.
    """

    model: Any
    tokenizer: Callable[[list[str]], Tensor]
    preprocessing: Preprocessing
    width: int
    device: torch.device
    dtype: torch.dtype

    def pixels(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Images uint8 [H, W, 3] -> the image tower's input [B, 3, height, width]."""
        return self.preprocessing(images, self.device).to(self.dtype)

    def embed_images(self, pixels: Tensor) -> Tensor:
        """The images' embeddings, float32 [B, D], of length one."""
        return F.normalize(self.model.encode_image(pixels).float(), dim=-1)

    def ids(self, texts: Sequence[str]) -> Tensor:
        """Texts -> the text tower's input, int64 [B, L]."""
        return self.tokenizer(list(texts)).to(self.device)

    def embed_texts(self, ids: Tensor) -> Tensor:
        """The texts' embeddings, float32 [B, D], of length one."""
        return F.normalize(self.model.encode_text(ids).float(), dim=-1)


def load_folder(folder: Path, uri: str, device: torch.device, dtype: torch.dtype) -> ClipModel:
    """The model of a folder in open_clip's form; `uri` is what errors call it.

    Raises:
        ModelError: It is no such folder, or its tokenizer needs a package that is not installed.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise ModelError(f"{uri}: no {CONFIG_FILE}; save the model there in open_clip's folder format")
    if not any((folder / name).is_file() for name in WEIGHT_FILES):
        raise ModelError(f"{uri}: no {WEIGHT_FILES[0]}; the others of open_clip's names would do, too")
    config = json.loads((folder / CONFIG_FILE).read_text("utf-8"))["model_cfg"]
    model = open_clip.create_model_from_pretrained(
        f"local-dir:{folder}", precision=PRECISIONS[dtype], device=device, return_transform=False
    )
    return _ready(model, config, _folder_tokenizer(folder, uri, config["text_cfg"]), device, dtype)


def load_file(path: Path, uri: str, architecture: str, device: torch.device, dtype: torch.dtype) -> ClipModel:
    """A model of open_clip's with the weights of a file; `uri` is what errors call it.

    Raises:
        ModelError: The weights are not those of the architecture.
    """
    config = architecture_config(architecture)
    weights = load_state_dict(path, uri)
    root = logging.getLogger()
    root.addFilter(_is_no_false_alarm)
    try:
        model = open_clip.create_model(
            architecture,
            precision=PRECISIONS[dtype],
            device=device,
            load_weights=False,
            pretrained_text=False,
        )
    finally:
        root.removeFilter(_is_no_false_alarm)
    fill(model, weights, uri, f"open_clip's {architecture}")
    return _ready(model, config, open_clip.get_tokenizer(architecture), device, dtype)


def _is_no_false_alarm(record: logging.LogRecord) -> bool:
    """Not open_clip's warning that weights are random, which are filled in a moment later."""
    return not record.getMessage().startswith("No pretrained weights loaded")


def architecture_config(architecture: str) -> dict[str, Any]:
    """open_clip's description of one of its architectures.

    Raises:
        ModelError: It has none of that name.
    """
    known = open_clip.list_models()
    if architecture not in known:
        close = ", ".join(difflib.get_close_matches(architecture, known, n=3)) or "open_clip.list_models()"
        raise ModelError(f"open_clip has no architecture '{architecture}'; close ones are {close}")
    config: dict[str, Any] = open_clip.get_model_config(architecture)
    return config


def _ready(
    model: nn.Module,
    config: dict[str, Any],
    tokenizer: Callable[[list[str]], Tensor],
    device: torch.device,
    dtype: torch.dtype,
) -> ClipModel:
    return ClipModel(
        model=model.eval().requires_grad_(False),
        tokenizer=tokenizer,
        preprocessing=Preprocessing.from_open_clip(open_clip.get_model_preprocess_cfg(model)),
        width=config["embed_dim"],
        device=device,
        dtype=dtype,
    )


def _folder_tokenizer(folder: Path, uri: str, text_config: dict[str, Any]) -> Callable[[list[str]], Tensor]:
    """OpenAI's tokenizer, unless the config says that the folder has one of its own."""
    context = text_config.get("context_length", DEFAULT_CONTEXT_LENGTH)
    if not text_config.get("hf_tokenizer_name"):
        return open_clip.get_tokenizer(f"local-dir:{folder}")
    if all((folder / name).is_file() for name in TOKENIZER_FILES[:2]):
        return Tokenizer(folder, context)
    try:
        return open_clip.get_tokenizer(f"local-dir:{folder}")
    except ImportError as error:
        raise ModelError(f"{uri}: its tokenizer needs the package transformers; install it") from error

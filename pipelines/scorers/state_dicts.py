"""Weights from files, never unpickled: safetensors, or what torch saved and loads as tensors alone."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from pipelines.models import ModelError

NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's CLIP keeps among its weights."""


def load_state_dict(path: Path, uri: str) -> dict[str, Tensor]:
    """The tensors of a file by name; a wrapping `state_dict` and the prefix `module.` are taken off.

    Args:
        path: The file.
        uri: What errors call it.

    Raises:
        ModelError: It is no such file.
    """
    with path.open("rb") as stream:
        begin = stream.read(9)
    if zipfile.is_zipfile(path) and any(_is_code(name) for name in zipfile.ZipFile(path).namelist()):
        raise ModelError(
            f"{uri}: a TorchScript archive, which is a program; name the weights as safetensors. Those "
            "of OpenAI's ViT-L/14 are at hf://timm/vit_large_patch14_clip_224.openai"
        )
    weights: Any
    try:
        if begin[8:] == b"{":
            weights = safetensors.torch.load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, safetensors.SafetensorError) as error:
        raise ModelError(
            f"{uri}: neither safetensors nor a state dict that torch.save wrote; convert it to safetensors"
        ) from error
    if isinstance(weights, dict) and isinstance(weights.get("state_dict"), dict):
        weights = weights["state_dict"]
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ModelError(f"{uri}: holds no tensors by name; save the model's state_dict()")
    return {name.removeprefix("module."): value for name, value in weights.items() if name not in NOT_WEIGHTS}


def _is_code(member: str) -> bool:
    return member.endswith(("/constants.pkl", ".py"))


def fill(model: nn.Module, weights: dict[str, Tensor], uri: str, what: str) -> None:
    """Load weights into a model that has exactly these.

    Raises:
        ModelError: Names or shapes differ; `what` says which model was expected.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        wrong = str(error).splitlines()[1:3]
        raise ModelError(
            f"{uri}: these are not the weights of {what}: {' '.join(line.strip()[:200] for line in wrong)}"
        ) from error

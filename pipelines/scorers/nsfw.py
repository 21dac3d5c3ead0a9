"""LAION's detector of unsafe images (github.com/LAION-AI/CLIP-based-NSFW-Detector)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.models import ModelError
from pipelines.scorers.heads import Head, Layer


def nsfw_head(layers: Sequence[Layer], weights: dict[str, Tensor], uri: str) -> Head:
    """Embeddings standardised by `norm.mean` and `norm.variance`, layers with ReLU between, a probability.

    Raises:
        ModelError: There is no such tensor of the embeddings' width.
    """
    weight = layers[0][0]
    for name in ("norm.mean", "norm.variance"):
        if name not in weights or weights[name].shape != weight.shape[1:]:
            raise ModelError(f"{uri}: no tensor {name} of {weight.shape[1]} numbers; this is not such a head")
    mean, variance = (weights[name].to(weight) for name in ("norm.mean", "norm.variance"))

    def head(embeddings_BD: Tensor) -> Tensor:
        hidden = (embeddings_BD - mean) / variance.sqrt()
        for weight, bias in layers[:-1]:
            hidden = F.relu(F.linear(hidden, weight, bias))
        return torch.sigmoid(F.linear(hidden, *layers[-1]))[:, 0]

    return head

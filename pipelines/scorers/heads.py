"""Small networks on CLIP embeddings: one number an image, for next to nothing once the embedding is there."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipelines.models import ModelError
from pipelines.scorers.batches import Batches
from pipelines.scorers.interface import ImageBatch

Head = Callable[[Tensor], Tensor]
"""Embeddings of length one, float32 [B, D] -> scores [B]."""
Layer = tuple[Tensor, Tensor]
"""Weight [out, in] and bias [out] of a linear layer."""
_LAYER = re.compile(r"layers\.(\d+)\.weight")


class HeadScorer:
    """Scores the embeddings that a CLIP scorer left in the batch.

    Attributes:
        fields: Its column.
        min_side: It needs no pixels.
    """

    def __init__(
        self, fields: Sequence[pa.Field], head: Head, clip: str, device: torch.device, batch_size: int
    ) -> None:
        self.fields, self.head, self.clip, self.device = fields, head, clip, device
        self.min_side = 1
        self.batches = Batches(f"{fields[0].name}'s embeddings", batch_size)

    def score(self, batch: ImageBatch) -> dict[str, pa.Array]:
        """The scores of all images of the batch."""
        scores = self.batches.run(list(batch.shared[self.clip]), self._unit, self.head, batch.events)
        return {self.fields[0].name: pa.array(scores, pa.float32())}

    def _unit(self, embeddings: Sequence[NDArray[np.float32]]) -> Tensor:
        # a head knows no other length: a longer embedding gives scores that look sensible and are wrong
        return F.normalize(torch.from_numpy(np.stack(embeddings)).to(self.device), dim=-1)


def read_layers(
    weights: dict[str, Tensor], uri: str, clip: str, width: int, device: torch.device
) -> list[Layer]:
    """Linear layers from `layers.N.weight` and `layers.N.bias`, in the order of N.

    Args:
        weights: The file's tensors.
        uri: What errors call it.
        clip: Name of the CLIP scorer whose embeddings go in.
        width: Of these.
        device: Where the layers go.

    Raises:
        ModelError: These are no layers that follow each other from `width` to one number.
    """
    numbers = sorted(int(found[1]) for name in weights if (found := _LAYER.fullmatch(name)))
    missing = [f"layers.{n}.bias" for n in numbers if f"layers.{n}.bias" not in weights]
    if not numbers or missing:
        raise ModelError(f"{uri}: no tensor {(missing or ['layers.0.weight'])[0]}; this is not such a head")
    layers = [(weights[f"layers.{n}.weight"], weights[f"layers.{n}.bias"]) for n in numbers]
    shapes = [tuple(weight.shape) for weight, _ in layers]
    fits = all(weight.ndim == 2 and bias.shape == weight.shape[:1] for weight, bias in layers) and [
        out for out, _ in shapes
    ] == [*(into for _, into in shapes[1:]), 1]
    if not fits:
        raise ModelError(f"{uri}: layers of the shapes {shapes} do not follow each other to one number")
    if shapes[0][1] != width:
        raise ModelError(
            f"{uri}: a head for embeddings of {shapes[0][1]} numbers, but '{clip}' makes {width}; set `clip` "
            "to a scorer with the backbone that the head was trained on"
        )
    return [(weight.to(device, torch.float32), bias.to(device, torch.float32)) for weight, bias in layers]

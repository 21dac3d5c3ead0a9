"""LAION's watermark detector (github.com/LAION-AI/LAION-5B-WatermarkDetection)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import timm
import torch
from numpy.typing import NDArray
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from pipelines.scorers.batches import Batches
from pipelines.scorers.interface import ImageBatch
from pipelines.scorers.preprocessing import Preprocessing
from pipelines.scorers.state_dicts import fill

BACKBONE = "efficientnet_b3"
"""timm's name today of what the authors call efficientnet_b3a."""
WATERMARK = 0
"""Of its two classes; the other is an image without one."""
PREPROCESSING = Preprocessing(
    height=256,
    width=256,
    mean=IMAGENET_DEFAULT_MEAN,
    std=IMAGENET_DEFAULT_STD,
    interpolation="bilinear",
    resize_mode="squash",
)
"""As in the authors' example_use.py and inference.py."""


def watermark_model() -> nn.Module:
    """The network, without weights: images [B, 3, 256, 256] -> logits of the two classes [B, 2]."""
    model: Any = timm.create_model(BACKBONE, pretrained=False, num_classes=2)
    model.classifier = nn.Sequential(
        nn.Linear(model.num_features, 625), nn.ReLU(), nn.Dropout(0.3), nn.Linear(625, 256), nn.ReLU(),
        nn.Linear(256, 2),
    )  # fmt: skip
    return model


class WatermarkScorer:
    """The probability that an image has a watermark.

    Attributes:
        fields: Its column.
        min_side: Of the images.
    """

    def __init__(
        self,
        fields: Sequence[pa.Field],
        weights: dict[str, Tensor],
        uri: str,
        device: torch.device,
        batch_size: int,
        dtype: torch.dtype,
    ) -> None:
        """Fill the network with these weights, which errors call `uri`.

        Raises:
            ModelError: They are not its weights.
        """
        self.fields, self.device, self.dtype = fields, device, dtype
        self.min_side = PREPROCESSING.min_side
        model = watermark_model()
        fill(model, weights, uri, "LAION's watermark detector")
        self.model = model.to(device, dtype).eval().requires_grad_(False)
        self.batches = Batches(f"{fields[0].name}'s images", batch_size)

    def score(self, batch: ImageBatch) -> dict[str, pa.Array]:
        """The probabilities of all images of the batch."""
        scores = self.batches.run(batch.pixels, self._pixels, self._probabilities, batch.events)
        return {self.fields[0].name: pa.array(scores, pa.float32())}

    def _pixels(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        return PREPROCESSING(images, self.device).to(self.dtype)

    def _probabilities(self, pixels: Tensor) -> Tensor:
        return self.model(pixels).float().softmax(-1)[:, WATERMARK]

"""LAION's aesthetic predictor v2 (github.com/christophschuhmann/improved-aesthetic-predictor)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from pipelines.scorers.heads import Head, Layer


def aesthetic_head(layers: Sequence[Layer]) -> Head:
    """Linear layers with nothing between them, as the published weights were trained; about 1 to 10."""

    def head(embeddings_BD: Tensor) -> Tensor:
        hidden = embeddings_BD
        for weight, bias in layers:
            hidden = F.linear(hidden, weight, bias)
        return hidden[:, 0]

    return head

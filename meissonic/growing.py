"""Give a transformer compression layers: the step from 512 to 1024 pixels."""

from __future__ import annotations

import torch

from meissonic.config import TransformerConfig
from meissonic.transformer import Transformer


@torch.no_grad()
def with_compression(transformer: Transformer) -> Transformer:
    """The transformer with compression layers; all other weights are the same tensors.

    They begin so that the blocks see what they have learnt to see: the mean of 2x2 normed tokens on the way
    in, and on the way out the same features for each of the four. Norms begin at 1.

    Raises:
        ValueError: it has such layers already.
    """
    if transformer.down_block is not None:
        raise ValueError("the transformer has compression layers already")
    config = transformer.config
    with torch.device("meta"):
        grown = Transformer(
            TransformerConfig.from_json(config.to_json() | {"downsample": True, "upsample": True})
        )
    weights = transformer.state_dict()
    like = transformer.project_to_hidden.weight
    identity = torch.eye(config.width, dtype=like.dtype, device=like.device)[:, :, None, None]
    ones = torch.ones(config.width, dtype=like.dtype, device=like.device)
    weights["down_block.downsample.norm.weight"] = ones
    weights["down_block.downsample.conv.weight"] = (identity / 4).repeat(1, 1, 2, 2)
    weights["up_block.upsample.norm.weight"] = ones.clone()
    weights["up_block.upsample.conv.weight"] = identity.repeat(1, 1, 2, 2)
    grown.load_state_dict(weights, assign=True)
    return grown.train(transformer.training).requires_grad_(like.requires_grad)

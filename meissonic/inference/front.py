"""From tokens to what the blocks take, by lookup.

A token passes an embedding, norms and linear maps before the blocks; none of them sees its neighbours but
the sum over a 2x2 patch. So there is one row for each value of a token, and one for each place in a patch.
Shapes: B batch, H x W token grid, n image positions inside the blocks, D width, V tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from meissonic.layers import RMS_EPS
from meissonic.transformer import Transformer


class TokenLookup:
    """What `Transformer.embed_tokens` gives, for grids whose sides are even where there is compression."""

    @torch.no_grad()
    def __init__(self, transformer: Transformer) -> None:
        self.transformer = transformer
        embed, down = transformer.embed, transformer.down_block
        table_VD = F.linear(
            _normed(embed.embeddings.weight, embed.layer_norm.weight), embed.conv.weight[..., 0, 0].float()
        )
        self.num_tokens = len(table_VD)
        if down is None:
            table_VD = _normed(table_VD, transformer.project_to_hidden_norm.weight)
            project = transformer.project_to_hidden.weight
            self.table = F.linear(table_VD, project.float()).to(project.dtype)
            return
        normed = _normed(table_VD, down.downsample.norm.weight)
        kernels = down.downsample.conv.weight.float().flatten(2).unbind(2)
        # the rows of one place in the patch after those of another: a position sums one of each
        self.table = torch.cat([F.linear(normed, kernel) for kernel in kernels])
        self.offsets = torch.arange(4, device=normed.device) * self.num_tokens

    def __call__(self, tokens_BHW: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """[B, H, W] -> [B, n, D], and the grid inside the blocks."""
        batch, height, width = tokens_BHW.shape
        if self.transformer.down_block is None:
            return F.embedding(tokens_BHW.flatten(1), self.table), (height, width)
        h, w = height // 2, width // 2
        patches = tokens_BHW.view(batch, h, 2, w, 2).permute(0, 1, 3, 2, 4).reshape(-1, 4)
        image = F.embedding_bag(patches + self.offsets, self.table, mode="sum").view(batch, h * w, -1)
        project = self.transformer.project_to_hidden
        normed = self.transformer.project_to_hidden_norm(image.to(project.weight.dtype))
        return project(normed), (h, w)


def _normed(x_VD: Tensor, weight_D: Tensor) -> Tensor:
    """Root-mean-square norm in float32."""
    return F.rms_norm(x_VD.float(), weight_D.shape, weight_D.float(), RMS_EPS)

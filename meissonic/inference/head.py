"""From the blocks' result to the features of the head's last product, at the positions that are asked for.

Shapes: B batch, n image positions inside the blocks, N tokens of the grid, M positions asked for, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from meissonic.transformer import Transformer


class PlainHead:
    """As the weights are stored: expand to every token, then the head at those asked for."""

    def __init__(self, transformer: Transformer) -> None:
        self.transformer = transformer

    def __call__(self, image_BnD: Tensor, grid: tuple[int, int], positions_BM: Tensor | None) -> Tensor:
        """Features [B, M, D]."""
        assert positions_BM is not None
        hidden = self.transformer.expand(image_BnD, grid).flatten(1, 2)
        return self.transformer.mlm_layer.features(take(hidden, positions_BM))


class MergedHead:
    """The head's first product merged with the one before it.

    With compression that is the transposed convolution: four matrices, one for each place in a 2x2 patch.
    Without, it is the projection out of the blocks, which then runs at the positions asked for alone.
    """

    @torch.no_grad()
    def __init__(self, transformer: Transformer) -> None:
        self.transformer = transformer
        first = transformer.mlm_layer.conv1.weight[..., 0, 0]
        if transformer.up_block is None:
            self.weight = (first.float() @ transformer.project_from_hidden.weight.float()).to(first)
        else:
            # [in, out, 2, 2] -> [2 * 2 * out, in]
            up = transformer.up_block.upsample.conv.weight.permute(2, 3, 1, 0).flatten(0, 1).float()
            self.weight = (first.float() @ up).to(first).flatten(0, 1).contiguous()

    def __call__(self, image_BnD: Tensor, grid: tuple[int, int], positions_BM: Tensor | None) -> Tensor:
        """Features [B, M, D]; without positions, those of all that is given, where nothing is compressed."""
        transformer = self.transformer
        if transformer.up_block is None:
            image = image_BnD if positions_BM is None else take(image_BnD, positions_BM)
            image = transformer.project_from_hidden_norm(image)
            return transformer.mlm_layer.layer_norm(F.linear(image, self.weight))
        assert positions_BM is not None
        image = transformer.project_from_hidden(transformer.project_from_hidden_norm(image_BnD))
        expanded = F.linear(transformer.up_block.upsample.norm(image), self.weight)
        tokens = expanded.reshape(len(expanded), -1, expanded.shape[2] // 4)
        return transformer.mlm_layer.layer_norm(take(tokens, patch_rows(positions_BM, grid)))


def take(x_BND: Tensor, positions_BM: Tensor) -> Tensor:
    """Rows of each sample [B, M, D]."""
    return x_BND.gather(1, positions_BM[..., None].expand(-1, -1, x_BND.shape[-1]))


def patch_rows(positions_BM: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens of a grid of (2h, 2w) -> their rows where the four of a patch follow each other."""
    width = 2 * grid[1]
    row, column = positions_BM // width, positions_BM % width
    return ((row // 2) * grid[1] + column // 2) * 4 + (row % 2) * 2 + column % 2

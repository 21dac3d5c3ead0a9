"""The transformer between tokens and logits, computed with the reductions that are on.

Shapes: B batch, H x W token grid, n image positions inside the blocks, M positions asked for, L text
positions, D width, V codes.
"""

from __future__ import annotations

import dataclasses
import functools

import torch
from torch import Tensor

from meissonic.inference.blocks import JoinedBlocks, Reuse, Rope, complex_turns
from meissonic.inference.captured import Captured
from meissonic.inference.front import TokenLookup
from meissonic.inference.head import MergedHead, PlainHead
from meissonic.inference.reductions import Reductions
from meissonic.transformer import Transformer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the blocks see beside tokens and timestep; the same in all steps."""

    text_BLD: Tensor
    pooled_BP: Tensor
    micro_conds_B5: Tensor

    def joined(self, other: Conditions) -> Conditions:
        """The samples of both, these first."""
        mine, others = self.tensors(), other.tensors()
        return Conditions(**{name: torch.cat([mine[name], others[name]]) for name in mine})

    def tensors(self) -> dict[str, Tensor]:
        """By name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


class Network:
    """The transformer for inference. What depends on weights alone is computed here, once.

    It holds views and products of the weights: make another when they change or move.

    Args:
        transformer: On its device, in evaluation mode.
        reductions: Those that are on.
        compiled: Compile the blocks and, on a GPU, replay them as captured graphs: for batches of few shapes.
    """

    def __init__(self, transformer: Transformer, reductions: Reductions, *, compiled: bool = False) -> None:
        self.transformer, self.compressed = transformer, transformer.down_block is not None
        self._on_gpu = transformer.project_to_hidden.weight.is_cuda
        self._embed = TokenLookup(transformer) if reductions.token_lookup else transformer.embed_tokens
        self._head = MergedHead(transformer) if reductions.merged_head else PlainHead(transformer)
        self._joined = JoinedBlocks(transformer) if reductions.joined_products else None
        self._complex_rope = self._joined is not None and not self._on_gpu and not compiled
        captured = compiled and self._on_gpu
        # without compression a position is a token, and the last block may leave out those that are known
        narrow = reductions.masked_only and reductions.merged_head and reductions.joined_products
        self._narrow = narrow and not self.compressed and not captured
        if compiled and self._joined is not None:
            self._joined.compile()
        self._run = Captured(self._blocks) if captured else self._blocks
        self._rope = functools.lru_cache(maxsize=16)(self._make_rope)

    def conditions(self, text_BLC: Tensor, pooled_BP: Tensor, micro_conds_B5: Tensor) -> Conditions:
        """Outputs of the text encoder and micro-conditions, as all steps use them."""
        text_BLD = self.transformer.embed_text(text_BLC)
        return Conditions(text_BLD=text_BLD, pooled_BP=pooled_BP, micro_conds_B5=micro_conds_B5)

    def features(
        self,
        tokens_BHW: Tensor,
        conditions: Conditions,
        timestep_B: Tensor,
        positions_BM: Tensor,
        reuse: Reuse | None = None,
    ) -> Tensor:
        """What the head's last product takes [B, M, D].

        Args:
            tokens_BHW: int64 codes, the mask token where unknown.
            conditions: Of the samples.
            timestep_B: [B] or [1].
            positions_BM: In the flattened token grid.
            reuse: Of a sampler that leaves out middle blocks in some steps.
        """
        image, grid = self._embed(tokens_BHW)
        rope = self._rope(conditions.text_BLD.shape[1], grid)
        if self._narrow or reuse is not None:
            temb_BD = self.transformer.condition(conditions.pooled_BP, conditions.micro_conds_B5, timestep_B)
            only_BM = positions_BM if self._narrow else None
            assert self._joined is not None
            image = self._joined(image, conditions.text_BLD, temb_BD, rope, only_BM, reuse)
            return self._head(image, grid, None if self._narrow else positions_BM)
        turns = rope if isinstance(rope, tuple) else (rope,)
        image = self._run(image, *conditions.tensors().values(), timestep_B, *turns)
        return self._head(image, grid, positions_BM)

    def logits(self, features_BMD: Tensor) -> Tensor:
        """Features, in any dtype, to float32 logits [B, M, V]."""
        head = self.transformer.mlm_layer
        return head.logits(features_BMD.to(head.conv2.weight.dtype)).float()

    def _blocks(
        self, image: Tensor, text: Tensor, pooled: Tensor, micro: Tensor, timestep: Tensor, *turns: Tensor
    ) -> Tensor:
        temb_BD = self.transformer.condition(pooled, micro, timestep)
        if self._joined is not None:
            return self._joined(image, text, temb_BD, (turns[0], turns[1]) if len(turns) == 2 else turns[0])
        return self.transformer.run_blocks(image, text, temb_BD, (turns[0], turns[1]))

    def _make_rope(self, num_text: int, grid: tuple[int, int]) -> Rope:
        rope = self.transformer.rope(num_text, grid)
        return complex_turns(rope) if self._complex_rope else rope

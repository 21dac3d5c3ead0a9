"""The blocks with one product for all that an input is multiplied with, and modulations from outside.

Joined weights take the place of the layers' own, which become views of them: no weight is held twice, and
the module that they came from computes and saves as before.

Shapes: B batch, N positions (L of text, then n of the image), M positions asked for, D width, H heads, K head
dimension.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meissonic.compiling import compile_parts
from meissonic.inference.head import take
from meissonic.layers import RMS_EPS, RMSNorm, apply_rope
from meissonic.transformer import DoubleBlock, SingleBlock, Transformer, clip_fp16

Rope = tuple[Tensor, Tensor] | Tensor
"""Cosines and sines [N, K], or complex turns [N, K / 2]: on CPUs one product of complex numbers is faster."""


OUTER = 0.25
"""Share of the double blocks, the first, and of the single ones, the last, that run in every step."""


@dataclasses.dataclass
class Reuse:
    """What the middle blocks added to the sequence when they last ran."""

    renew: bool = True
    """Whether they run in the next call."""
    last: Tensor | None = None

    def added(self, batch: int) -> Tensor | None:
        """What to add for the last `batch` samples; None: run the blocks."""
        return None if self.renew or self.last is None or len(self.last) < batch else self.last[-batch:]


class JoinedBlocks:
    """What `Transformer.run_blocks` gives, or the last block's result at some positions alone."""

    def __init__(self, transformer: Transformer) -> None:
        doubles = [block for block in transformer.transformer_blocks if isinstance(block, DoubleBlock)]
        singles = [block for block in transformer.single_transformer_blocks if isinstance(block, SingleBlock)]
        self.doubles = [JoinedDouble(block) for block in doubles]
        self.singles = [JoinedSingle(block) for block in singles]
        layers = [norm.linear for block in doubles for norm in (block.norm1, block.norm1_context)]
        layers += [block.norm.linear for block in singles]
        self.modulations = JoinedLinear(layers)
        self.width = transformer.config.width

    def __call__(
        self,
        image_BnD: Tensor,
        text_BLD: Tensor,
        temb_BD: Tensor,
        rope: Rope,
        only_BM: Tensor | None = None,
        reuse: Reuse | None = None,
    ) -> Tensor:
        """The image's positions after all blocks: [B, n, D], or [B, M, D] of the positions in `only`."""
        image, text = image_BnD, text_BLD
        modulations = self.modulations(F.silu(temb_BD))[:, None].split(self._sizes(), dim=-1)
        doubles, singles = modulations[: len(self.doubles)], modulations[len(self.doubles) :]
        first, last = len(doubles), 1
        if reuse is not None:
            first, last = math.ceil(OUTER * len(doubles)), math.ceil(OUTER * len(singles))
        for double, modulation in zip(self.doubles[:first], doubles[:first], strict=True):
            image, text = double(image, text, modulation, rope)
        added = None
        if reuse is not None:
            before = torch.cat([text, image], dim=1)
            added = reuse.added(len(before))
        if added is not None:
            x_BND = before + added
        else:
            for double, modulation in zip(self.doubles[first:], doubles[first:], strict=True):
                image, text = double(image, text, modulation, rope)
            x_BND = torch.cat([text, image], dim=1)
            for single, modulation in zip(self.singles[:-last], singles[:-last], strict=True):
                x_BND = single(x_BND, modulation, rope)
            if reuse is not None:
                reuse.last = x_BND - before
        for single, modulation in zip(self.singles[-last:-1], singles[-last:-1], strict=True):
            x_BND = single(x_BND, modulation, rope)
        # what the last block makes of the text, and of positions that nobody looks at, goes nowhere
        positions = torch.arange(image.shape[1], device=image.device)[None] if only_BM is None else only_BM
        positions = (positions + text.shape[1]).expand(len(image), -1)
        return self.singles[-1](x_BND, singles[-1], rope, positions)

    def compile(self) -> None:
        """Compile each kind of block for the shapes that it meets."""
        compile_parts([*self.doubles, *self.singles])

    def _sizes(self) -> list[int]:
        return [12 * self.width] * len(self.doubles) + [3 * self.width] * len(self.singles)


class JoinedLinear(nn.Module):
    """Linear layers of one input as one product; their outputs stand side by side."""

    @torch.no_grad()
    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
        self.weight = nn.Parameter(torch.cat([layer.weight for layer in linears]), requires_grad=False)
        self.bias = nn.Parameter(torch.cat([layer.bias for layer in linears]), requires_grad=False)
        start = 0
        for layer in linears:
            rows = slice(start, start + layer.out_features)
            layer.weight.data, layer.bias.data = self.weight.data[rows], self.bias.data[rows]
            start += layer.out_features

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., sum of out]."""
        return F.linear(x, self.weight, self.bias)


class JoinedDouble(nn.Module):
    """A double-stream block."""

    def __init__(self, block: DoubleBlock) -> None:
        super().__init__()
        attention = block.attn
        self.head_dim = attention.head_dim
        self.image_qkv = JoinedLinear([attention.to_q, attention.to_k, attention.to_v])
        self.text_qkv = JoinedLinear([attention.add_q_proj, attention.add_k_proj, attention.add_v_proj])
        self.norms = nn.ModuleList([attention.norm_q, attention.norm_k])
        self.text_norms = nn.ModuleList([attention.norm_added_q, attention.norm_added_k])
        self.out, self.text_out = attention.to_out[0], attention.to_add_out
        self.mlp, self.text_mlp = (
            nn.ModuleList([ff.net["0"].proj, ff.net["2"]])  # type: ignore[list-item]
            for ff in (block.ff, block.ff_context)
        )

    def forward(self, image: Tensor, text: Tensor, modulation: Tensor, rope: Rope) -> tuple[Tensor, Tensor]:
        """Image [B, n, D], text [B, L, D] and modulations [B, 1, 12 D] -> image and text."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp, *of_text = modulation.chunk(12, dim=-1)
        t_shift, t_scale, t_gate, t_shift_mlp, t_scale_mlp, t_gate_mlp = of_text
        image_qkv = self.image_qkv(_modulated(image, shift, scale))
        text_qkv = self.text_qkv(_modulated(text, t_shift, t_scale))
        num_text, width = text.shape[1], image.shape[2]
        q, k = (
            torch.cat(
                [
                    _normed_heads(text_qkv[..., part], text_norm, self.head_dim),
                    _normed_heads(image_qkv[..., part], norm, self.head_dim),
                ],
                dim=1,
            )
            for part, norm, text_norm in zip(
                (slice(0, width), slice(width, 2 * width)), self.norms, self.text_norms, strict=True
            )
        )
        v = torch.cat([text_qkv[..., 2 * width :], image_qkv[..., 2 * width :]], dim=1)
        out = _attend(rotate(q, rope), rotate(k, rope), _heads(v, self.head_dim))
        image = torch.addcmul(image, gate, self.out(out[:, num_text:]))
        image = torch.addcmul(image, gate_mlp, _mlp(self.mlp, _modulated(image, shift_mlp, scale_mlp)))
        text = torch.addcmul(text, t_gate, self.text_out(out[:, :num_text]))
        text = torch.addcmul(
            text, t_gate_mlp, _mlp(self.text_mlp, _modulated(text, t_shift_mlp, t_scale_mlp))
        )
        return image, clip_fp16(text)


class JoinedSingle(nn.Module):
    """A single-stream block."""

    def __init__(self, block: SingleBlock) -> None:
        super().__init__()
        attention = block.attn
        self.head_dim = attention.head_dim
        self.joined = JoinedLinear([attention.to_k, attention.to_v, attention.to_q, block.proj_mlp])
        self.norm_q, self.norm_k = attention.norm_q, attention.norm_k
        self.out = block.proj_out

    def forward(self, x_BND: Tensor, modulation: Tensor, rope: Rope, only_BM: Tensor | None = None) -> Tensor:
        """[B, N, D] and modulations [B, 1, 3 D] -> [B, N, D], or [B, M, D] of the positions in `only`."""
        shift, scale, gate = modulation.chunk(3, dim=-1)
        normed, width = _modulated(x_BND, shift, scale), x_BND.shape[2]
        weight, bias, split = self.joined.weight, self.joined.bias, 2 * width
        if only_BM is None:
            kv, rest = self.joined(normed).split([split, 5 * width], dim=-1)
            rope_q = rope
        else:
            kv = F.linear(normed, weight[:split], bias[:split])
            rest = F.linear(take(normed, only_BM), weight[split:], bias[split:])
            x_BND, rope_q = take(x_BND, only_BM), _rope_at(rope, only_BM)
        q = rotate(_normed_heads(rest[..., :width], self.norm_q, self.head_dim), rope_q)
        k = rotate(_normed_heads(kv[..., :width], self.norm_k, self.head_dim), rope)
        out = _attend(q, k, _heads(kv[..., width:], self.head_dim))
        joined = torch.cat([out, _gelu(rest[..., width:])], dim=-1)
        return clip_fp16(torch.addcmul(x_BND, gate, self.out(joined)))


def complex_turns(rope: tuple[Tensor, Tensor]) -> Tensor:
    """Cosines and sines [N, K], each twice, as complex numbers [N, K / 2]."""
    return torch.complex(*(part[:, ::2].contiguous() for part in rope))


def rotate(x_BNHK: Tensor, rope: Rope) -> Tensor:
    """Rotate interleaved pairs in float32; the result has the dtype of `x`."""
    if isinstance(rope, tuple):
        cos, sin = (part[..., None, :] for part in rope)
        return apply_rope(x_BNHK, cos, sin)
    pairs = torch.view_as_complex(_heads(x_BNHK.float(), 2))
    return torch.view_as_real(pairs * rope[..., None, :]).flatten(-2).to(x_BNHK.dtype)


def _rope_at(rope: Rope, positions_BM: Tensor) -> Rope:
    if isinstance(rope, tuple):
        return rope[0][positions_BM], rope[1][positions_BM]
    return rope[positions_BM]


def _heads(x: Tensor, size: int) -> Tensor:
    """The last dimension in parts of a size."""
    return x.view(*x.shape[:-1], -1, size)


def _normed_heads(x_BND: Tensor, norm: nn.Module, head_dim: int) -> Tensor:
    """Normed heads [B, N, H, K]."""
    heads = _heads(x_BND, head_dim)
    assert isinstance(norm, RMSNorm)
    if heads.dtype == torch.float32 and not torch.compiler.is_compiling():
        return F.rms_norm(heads, (head_dim,), norm.weight, RMS_EPS)
    return norm(heads)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)


def _attend(q_BMHK: Tensor, k_BNHK: Tensor, v_BNHK: Tensor) -> Tensor:
    """[B, M, D]."""
    q, k, v = (part.transpose(1, 2) for part in (q_BMHK, k_BNHK, v_BNHK))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _mlp(layers: nn.ModuleList, x: Tensor) -> Tensor:
    return layers[1](_gelu(layers[0](x)))


def _gelu(x: Tensor) -> Tensor:
    """GELU by its tanh formula, 1 + tanh(u) = 2 sigmoid(2u): on CPUs a sigmoid takes a third of a tanh."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return F.gelu(x, approximate="tanh")
    u = x * x
    u.mul_(2 * 0.044715 * (2 / torch.pi) ** 0.5).add_(2 * (2 / torch.pi) ** 0.5).mul_(x)
    return torch.sigmoid_(u).mul_(x)

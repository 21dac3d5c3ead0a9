"""Layers shared by the transformer's blocks.

Shapes: B batch, N positions, D width, H heads, K head dimension.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RMS_EPS = 1e-6
SINUSOID_WIDTH = 256


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension, its statistics in fp32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` [..., width]; half-precision weights are multiplied in half precision."""
        scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + RMS_EPS)
        normed = x * scale
        if self.weight.dtype in (torch.float16, torch.bfloat16):
            normed = normed.to(self.weight.dtype)
        return normed * self.weight


def sinusoid(values: Tensor) -> Tensor:
    """Sinusoidal embedding [n] -> [n, 256] in fp32: cosines first, frequencies 1e4^(-i/128)."""
    half = SINUSOID_WIDTH // 2
    frequencies = torch.exp(
        -math.log(10000.0) * torch.arange(half, device=values.device, dtype=torch.float32) / half
    )
    angles = values.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def rope_table(ids: Tensor, axes_dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Rotary cosines and sines [N, K] for position ids [N, axes], angles in fp64, each value for a pair."""
    angles = []
    for axis, dim in enumerate(axes_dims):
        frequencies = 1.0 / 10000.0 ** (torch.arange(0, dim, 2, dtype=torch.float64, device=ids.device) / dim)
        angles.append(torch.outer(ids[:, axis].double(), frequencies))
    angle = torch.cat(angles, dim=-1).repeat_interleave(2, dim=-1)
    return angle.cos().float(), angle.sin().float()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate interleaved pairs of `x` [B, H, N, K] in fp32; the result has `x`'s dtype."""
    pairs = x.float().view(*x.shape[:-1], -1, 2)
    rotated = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(-2)
    return (x.float() * cos + rotated * sin).to(x.dtype)


class TimestepEmbedding(nn.Module):
    """Two linear layers with SiLU between."""

    def __init__(self, in_width: int, width: int, *, bias: bool) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_width, width, bias=bias)
        self.linear_2 = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_width] -> [B, width]."""
        return self.linear_2(F.silu(self.linear_1(x)))


class Modulation(nn.Module):
    """The adaptive norm's linear layer: SiLU(temb) -> `num_chunks` vectors of the width."""

    def __init__(self, width: int, num_chunks: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, num_chunks * width)
        self.num_chunks = num_chunks

    def forward(self, temb_BD: Tensor) -> tuple[Tensor, ...]:
        """[B, D] -> `num_chunks` tensors [B, 1, D]."""
        return self.linear(F.silu(temb_BD))[:, None].chunk(self.num_chunks, dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Non-affine layer norm of `x` [B, N, D], scaled and shifted."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class FeedForward(nn.Module):
    """Linear, tanh-GELU, linear, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        up = nn.Module()
        up.proj = nn.Linear(width, 4 * width)
        # the released keys are net.0.proj and net.2: index 1 was a dropout
        self.net = nn.ModuleDict({"0": up, "2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        return self.net["2"](F.gelu(self.net["0"].proj(x), approximate="tanh"))  # type: ignore[operator]


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """[B, N, D] -> [B, H, N, K]."""
    return x.view(*x.shape[:-1], -1, head_dim).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Full attention [B, H, N, K] -> [B, N, D]."""
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

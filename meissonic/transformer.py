"""The multi-modal transformer: double-stream, then single-stream blocks between a token embedding and a head.

Parameter names are those of the released checkpoint. Shapes: B batch, H x W token grid, h x w grid inside the
blocks (half of it each way with compression), N positions (text, then image), L text positions, D width, V
codes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meissonic.config import TransformerConfig
from meissonic.layers import (
    FeedForward,
    Modulation,
    RMSNorm,
    TimestepEmbedding,
    apply_rope,
    attend,
    modulate,
    rope_table,
    sinusoid,
    split_heads,
)

NUM_MICRO_CONDITIONS = 5
FP16_MAX = 65504


class JointAttention(nn.Module):
    """Attention over text and image together, each with its own projections."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.norm_q, self.norm_k = RMSNorm(head_dim), RMSNorm(head_dim)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.add_k_proj, self.add_v_proj, self.add_q_proj = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.to_add_out = nn.Linear(width, width)
        self.norm_added_q, self.norm_added_k = RMSNorm(head_dim), RMSNorm(head_dim)

    def forward(self, image: Tensor, text: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Image [B, n, D] and text [B, L, D] -> the same."""
        heads = self.head_dim
        q = torch.cat(
            [
                self.norm_added_q(split_heads(self.add_q_proj(text), heads)),
                self.norm_q(split_heads(self.to_q(image), heads)),
            ],
            2,
        )
        k = torch.cat(
            [
                self.norm_added_k(split_heads(self.add_k_proj(text), heads)),
                self.norm_k(split_heads(self.to_k(image), heads)),
            ],
            2,
        )
        v = torch.cat([split_heads(self.add_v_proj(text), heads), split_heads(self.to_v(image), heads)], 2)
        out = attend(apply_rope(q, *rope), apply_rope(k, *rope), v)
        num_text = text.shape[1]
        return self.to_out[0](out[:, num_text:]), self.to_add_out(out[:, :num_text])


class DoubleBlock(nn.Module):
    """Text and image attend to each other and keep weights of their own."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.norm1, self.norm1_context = Modulation(width, 6), Modulation(width, 6)
        self.attn = JointAttention(width, head_dim)
        self.ff, self.ff_context = FeedForward(width), FeedForward(width)

    def forward(
        self, image: Tensor, text: Tensor, temb_BD: Tensor, rope: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Image [B, n, D] and text [B, L, D] -> the same."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.norm1(temb_BD)
        c_shift, c_scale, c_gate, c_shift_mlp, c_scale_mlp, c_gate_mlp = self.norm1_context(temb_BD)
        image_out, text_out = self.attn(modulate(image, shift, scale), modulate(text, c_shift, c_scale), rope)
        image = image + gate * image_out
        image = image + gate_mlp * self.ff(modulate(image, shift_mlp, scale_mlp))
        text = text + c_gate * text_out
        text = text + c_gate_mlp * self.ff_context(modulate(text, c_shift_mlp, c_scale_mlp))
        return image, clip_fp16(text)


class SelfAttention(nn.Module):
    """Attention without an output projection: the single block has one for attention and MLP together."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.norm_q, self.norm_k = RMSNorm(head_dim), RMSNorm(head_dim)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x_BND: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        q = apply_rope(self.norm_q(split_heads(self.to_q(x_BND), self.head_dim)), *rope)
        k = apply_rope(self.norm_k(split_heads(self.to_k(x_BND), self.head_dim)), *rope)
        return attend(q, k, split_heads(self.to_v(x_BND), self.head_dim))


class SingleBlock(nn.Module):
    """Attention and MLP in parallel on the joined sequence."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.norm = Modulation(width, 3)
        self.proj_mlp = nn.Linear(width, 4 * width)
        self.proj_out = nn.Linear(5 * width, width)
        self.attn = SelfAttention(width, head_dim)

    def forward(self, x_BND: Tensor, temb_BD: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        shift, scale, gate = self.norm(temb_BD)
        normed = modulate(x_BND, shift, scale)
        mlp = F.gelu(self.proj_mlp(normed), approximate="tanh")
        return clip_fp16(x_BND + gate * self.proj_out(torch.cat([self.attn(normed, rope), mlp], dim=-1)))


class TokenEmbed(nn.Module):
    """Token embedding, norm and a 1x1 convolution."""

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(vocab_size, width)
        self.layer_norm = RMSNorm(width)
        self.conv = nn.Conv2d(width, width, kernel_size=1, bias=False)

    def forward(self, tokens_BHW: Tensor) -> Tensor:
        """[B, H, W] -> [B, D, H, W]."""
        return self.conv(self.layer_norm(self.embeddings(tokens_BHW)).permute(0, 3, 1, 2))


class _Resample(nn.Module):
    """A channel-last norm before a strided convolution (`downsample` or `upsample` in the released keys)."""

    def __init__(self, width: int, conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.norm = RMSNorm(width)
        self.conv = conv

    def normed(self, x_BDHW: Tensor) -> Tensor:
        return self.norm(x_BDHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Compress(nn.Module):
    """2x2 tokens -> one position. An odd grid is padded with zeros at the right and at the bottom."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.downsample = _Resample(width, nn.Conv2d(width, width, kernel_size=2, stride=2, bias=False))

    def forward(self, x_BDHW: Tensor) -> Tensor:
        """[B, D, H, W] -> [B, D, ceil(H/2), ceil(W/2)]."""
        return self.downsample.conv(F.pad(self.downsample.normed(x_BDHW), (0, 1, 0, 1)))


class Decompress(nn.Module):
    """One position -> 2x2 tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.upsample = _Resample(
            width, nn.ConvTranspose2d(width, width, kernel_size=2, stride=2, bias=False)
        )

    def forward(self, x_BDhw: Tensor) -> Tensor:
        """[B, D, h, w] -> [B, D, 2h, 2w]."""
        return self.upsample.conv(self.upsample.normed(x_BDhw))


class Head(nn.Module):
    """The two 1x1 convolutions that end in logits. The second is linear: guidance may come first."""

    def __init__(self, width: int, codebook_size: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, kernel_size=1, bias=False)
        self.layer_norm = RMSNorm(width)
        self.conv2 = nn.Conv2d(width, codebook_size, kernel_size=1, bias=False)

    def features(self, x_ND: Tensor) -> Tensor:
        """[..., D] -> [..., D], all of the head but its last product."""
        return self.layer_norm(F.linear(x_ND, self.conv1.weight[:, :, 0, 0]))

    def logits(self, features_ND: Tensor) -> Tensor:
        """[..., D] -> [..., V]."""
        return F.linear(features_ND, self.conv2.weight[:, :, 0, 0])


class TimeTextEmbedding(nn.Module):
    """Sum of the timestep's and the pooled condition's embeddings."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedding(256, width, bias=True)
        self.text_embedder = TimestepEmbedding(width, width, bias=True)

    def forward(self, timestep_B: Tensor, pooled_BD: Tensor) -> Tensor:
        """[B], [B, D] -> [B, D]."""
        # the product is in the hidden dtype: half precision rounds it, and the weights were trained so
        scaled = timestep_B.to(pooled_BD.dtype) * 1000
        time = self.timestep_embedder(sinusoid(scaled).to(pooled_BD.dtype))
        return time + self.text_embedder(pooled_BD)


class Transformer(nn.Module):
    """Meissonic's transformer.

    Source: Bai et al., "Meissonic", arXiv 2410.08261, and the released checkpoint.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width, head_dim = config.width, config.attention_head_dim
        self.time_text_embed = TimeTextEmbedding(width)
        self.context_embedder = nn.Linear(config.joint_attention_dim, width)
        self.transformer_blocks = nn.ModuleList(
            DoubleBlock(width, head_dim) for _ in range(config.num_layers)
        )
        self.single_transformer_blocks = nn.ModuleList(
            SingleBlock(width, head_dim) for _ in range(config.num_single_layers)
        )
        self.embed = TokenEmbed(config.vocab_size, width)
        self.mlm_layer = Head(width, config.codebook_size)
        self.cond_embed = TimestepEmbedding(width + NUM_MICRO_CONDITIONS * 256, width, bias=False)
        self.encoder_proj_layer_norm = RMSNorm(width)
        self.project_to_hidden_norm = RMSNorm(width)
        self.project_to_hidden = nn.Linear(width, width, bias=False)
        self.project_from_hidden_norm = RMSNorm(width)
        self.project_from_hidden = nn.Linear(width, width, bias=False)
        self.down_block = Compress(width) if config.downsample else None
        self.up_block = Decompress(width) if config.upsample else None

    def forward(
        self,
        tokens_BHW: Tensor,
        text_BLC: Tensor,
        pooled_BP: Tensor,
        micro_conds_B5: Tensor,
        timestep_B: Tensor,
    ) -> Tensor:
        """Logits of every position.

        Args:
            tokens_BHW: int64 codes, the mask token where unknown.
            text_BLC: the text encoder's penultimate hidden states.
            pooled_BP: its projected pooled output.
            micro_conds_B5: original width, original height, crop top, crop left, score.
            timestep_B: [B] or [1]; `mask_prob * 1000` in training, the remaining step's index in the sampler.

        Returns:
            [B, V, H, W]; an odd grid comes back one larger with compression.
        """
        hidden_BHWD = self.hidden(tokens_BHW, text_BLC, pooled_BP, micro_conds_B5, timestep_B)
        return self.mlm_layer.logits(self.mlm_layer.features(hidden_BHWD)).permute(0, 3, 1, 2)

    def hidden(
        self,
        tokens_BHW: Tensor,
        text_BLC: Tensor,
        pooled_BP: Tensor,
        micro_conds_B5: Tensor,
        timestep_B: Tensor,
    ) -> Tensor:
        """All but the head: arguments as `forward`'s, result [B, H, W, D]."""
        temb_BD = self.condition(pooled_BP, micro_conds_B5, timestep_B)
        image, grid = self.embed_tokens(tokens_BHW)
        image = self.run_blocks(image, self.embed_text(text_BLC), temb_BD, self.rope(text_BLC.shape[1], grid))
        return self.expand(image, grid)

    def embed_text(self, text_BLC: Tensor) -> Tensor:
        """The text encoder's hidden states as the blocks take them [B, L, D]; no step changes them."""
        return self.encoder_proj_layer_norm(self.context_embedder(text_BLC))

    def embed_tokens(self, tokens_BHW: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens as the blocks take them [B, h * w, D], and (h, w)."""
        image = self.embed(tokens_BHW)
        if self.down_block is not None:
            image = self.down_block(image)
        h, w = image.shape[-2:]
        return self.project_to_hidden(self.project_to_hidden_norm(image.flatten(2).transpose(1, 2))), (h, w)

    def rope(self, num_text: int, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Rotary cosines and sines [L + h * w, K]."""
        device = self.project_to_hidden.weight.device
        return rope_table(position_ids(num_text, *grid, device), self.config.axes_dims_rope)

    def run_blocks(
        self, image_BnD: Tensor, text_BLD: Tensor, temb_BD: Tensor, rope: tuple[Tensor, Tensor]
    ) -> Tensor:
        """All blocks: the image's positions [B, h * w, D]."""
        image, text = image_BnD, text_BLD
        for block in self.transformer_blocks:
            image, text = block(image, text, temb_BD, rope)
        x_BND = torch.cat([text, image], dim=1)
        for block in self.single_transformer_blocks:
            x_BND = block(x_BND, temb_BD, rope)
        return x_BND[:, text.shape[1] :]

    def expand(self, image_BnD: Tensor, grid: tuple[int, int]) -> Tensor:
        """The blocks' result at every token [B, H, W, D]."""
        image = self.project_from_hidden(self.project_from_hidden_norm(image_BnD))
        image = image.transpose(1, 2).unflatten(2, grid)
        if self.up_block is not None:
            image = self.up_block(image)
        return image.permute(0, 2, 3, 1)

    def condition(self, pooled_BP: Tensor, micro_conds_B5: Tensor, timestep_B: Tensor) -> Tensor:
        """The vector [B, D] that modulates every block."""
        micro = sinusoid(micro_conds_B5.flatten()).reshape(micro_conds_B5.shape[0], -1)
        pooled = torch.cat([pooled_BP, micro.to(pooled_BP.dtype)], dim=-1)
        # half-precision weights, fp32 pooled text: the model's dtype rules
        pooled = self.cond_embed(pooled.to(self.cond_embed.linear_1.weight.dtype))
        return self.time_text_embed(timestep_B, pooled)


def position_ids(num_text: int, height: int, width: int, device: torch.device) -> Tensor:
    """Ids (text, row, column) [num_text + height * width, 3]: zeros for text, the grid's for the image."""
    ids = torch.zeros(num_text + height * width, 3, dtype=torch.int64, device=device)
    ids[num_text:, 1] = torch.arange(height, device=device).repeat_interleave(width)
    ids[num_text:, 2] = torch.arange(width, device=device).repeat(height)
    return ids


def clip_fp16(x: Tensor) -> Tensor:
    """Keep float16 activations finite, as in training."""
    return x.clip(-FP16_MAX, FP16_MAX) if x.dtype == torch.float16 else x

"""The VQ-GAN image tokenizer: pixels <-> codes of a codebook.

Parameter names are those of the released checkpoint. Pixels are in [0, 1] on both sides. Shapes: B batch,
C latent channels, h x w token grid.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meissonic.compiling import compile_parts
from meissonic.config import VQConfig

EPS = 1e-6
SEARCH_CHUNK = 16_384
"""Positions whose distances to all codes are held at once: 512 MiB with 8,192 codes."""


def _conv3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


class Resnet(nn.Module):
    """GroupNorm, SiLU, convolution; twice, around a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=EPS)
        self.conv1 = _conv3(in_channels, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=EPS)
        self.conv2 = _conv3(out_channels, out_channels)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H, W]."""
        residual = x if self.conv_shortcut is None else self.conv_shortcut(x)
        x = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(F.silu(self.norm2(x))) + residual


class Downsample(nn.Module):
    """Stride-2 convolution, padded at the right and at the bottom."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H/2, W/2]."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, 2H, 2W]."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The resnets of one resolution, and the step to the next unless it is the last."""

    def __init__(
        self, in_channels: int, out_channels: int, *, num_resnets: int, groups: int, step: str | None
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            Resnet(in_channels if i == 0 else out_channels, out_channels, groups) for i in range(num_resnets)
        )
        self.downsamplers = nn.ModuleList([Downsample(out_channels)] if step == "down" else [])
        self.upsamplers = nn.ModuleList([Upsample(out_channels)] if step == "up" else [])

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H', W']."""
        for layer in (*self.resnets, *self.downsamplers, *self.upsamplers):
            x = layer(x)
        return x


class Mid(nn.Module):
    """Two resnets at the lowest resolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(channels, channels, groups) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> the same."""
        for resnet in self.resnets:
            x = resnet(x)
        return x


class Encoder(nn.Module):
    """Pixels -> latents before quantisation."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        channels, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = _conv3(config.in_channels, channels[0])
        self.down_blocks = nn.ModuleList(
            Level(
                channels[max(i - 1, 0)],
                out,
                num_resnets=config.layers_per_block,
                groups=groups,
                step=None if i == len(channels) - 1 else "down",
            )
            for i, out in enumerate(channels)
        )
        self.mid_block = Mid(channels[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], eps=EPS)
        self.conv_out = _conv3(channels[-1], config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C, h, w]."""
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Quantised latents -> pixels."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        channels, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = _conv3(config.latent_channels, channels[0])
        self.mid_block = Mid(channels[0], groups)
        self.up_blocks = nn.ModuleList(
            Level(
                channels[max(i - 1, 0)],
                out,
                num_resnets=config.layers_per_block + 1,
                groups=groups,
                step=None if i == len(channels) - 1 else "up",
            )
            for i, out in enumerate(channels)
        )
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], eps=EPS)
        self.conv_out = _conv3(channels[-1], config.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, 3, H, W]."""
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Codebook(nn.Module):
    """The code vectors."""

    def __init__(self, num_codes: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_codes, channels)


class VQModel(nn.Module):
    """The tokenizer. `encode` and `decode` are all that most callers need."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)
        self.quantize = Codebook(config.num_vq_embeddings, config.latent_channels)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)
        self.decoder = Decoder(config)

    def encode(self, pixels_B3HW: Tensor) -> Tensor:
        """Pixels in [0, 1], both sides multiples of the factor -> int64 codes [B, h, w].

        Raises:
            ValueError: a side is no multiple of the factor.
        """
        height, width = pixels_B3HW.shape[-2:]
        if height % self.config.factor or width % self.config.factor:
            raise ValueError(
                f"image is {width}x{height} px; both sides must be multiples of {self.config.factor}"
            )
        return self.nearest_codes(self.latents(pixels_B3HW))

    def decode(self, codes_Bhw: Tensor) -> Tensor:
        """Codes [B, h, w] -> pixels [B, 3, H, W], about [0, 1] and not clipped."""
        return self.decode_latents(self.lookup(codes_Bhw))

    def latents(self, pixels_B3HW: Tensor) -> Tensor:
        """Pixels -> latents [B, C, h, w] before quantisation."""
        return self.quant_conv(self.encoder(pixels_B3HW))

    def nearest_codes(self, latents_BChw: Tensor) -> Tensor:
        """The codebook row of least Euclidean distance to each latent, [B, h, w]."""
        flat = latents_BChw.permute(0, 2, 3, 1)
        codes_VC = self.quantize.embedding.weight.float()
        # |x - c|^2 without |x|^2, which is the same for every code
        squares_V = codes_VC.pow(2).sum(1)
        with torch.autocast(latents_BChw.device.type, enabled=False):  # a rounded product finds other codes
            nearest = [
                torch.addmm(squares_V, chunk, codes_VC.T, alpha=-2).argmin(dim=1)
                for chunk in torch.split(flat.flatten(0, 2).float(), SEARCH_CHUNK)
            ]
        return torch.cat(nearest).view(flat.shape[:3])

    def lookup(self, codes_Bhw: Tensor) -> Tensor:
        """Codes -> their vectors [B, C, h, w], the channels of a position side by side in memory."""
        return self.quantize.embedding(codes_Bhw).permute(0, 3, 1, 2)

    def decode_latents(self, quantized_BChw: Tensor) -> Tensor:
        """Code vectors -> pixels, not clipped."""
        return self.decoder(self.post_quant_conv(quantized_BChw))


def compile_encoder(model: VQModel) -> None:
    """Compile the encoder's resnets in place, for each size of image that they meet."""
    compile_parts(_resnets(model.encoder))


def prepare_decoder(model: VQModel, *, compiled: bool) -> None:
    """Order the decoder's weights as a GPU's convolutions like them, and compile its resnets if asked."""
    if model.quant_conv.weight.is_cuda:
        model.decoder.to(memory_format=torch.channels_last)
    if compiled:
        compile_parts(_resnets(model.decoder))


def _resnets(module: nn.Module) -> Iterator[Resnet]:
    return (part for part in module.modules() if isinstance(part, Resnet))


def to_uint8(pixels_B3HW: Tensor) -> Tensor:
    """Decoded pixels -> uint8 [B, H, W, 3], where they are."""
    return (pixels_B3HW.float().clip(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()

"""Floating-point operations of the model, by formula: a multiplication and an addition are two.

Only matrix products and convolutions count; norms, activations and rotations are left out. All figures are
for one sample. Symbols in the formulas: D width, N positions inside the blocks (text, then image), L text
positions, T tokens of the grid, V codes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from meissonic.config import TextConfig, TransformerConfig, VQConfig
from meissonic.layers import SINUSOID_WIDTH
from meissonic.transformer import NUM_MICRO_CONDITIONS

TEXT_LENGTH = 77
"""Positions of every encoded text in the released model."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForwardCost:
    """One forward of the transformer: the products' FLOPs, part by part."""

    double_blocks: int
    """24 N D^2 each: queries, keys, values and output 4 N D^2 products, the MLP 8 N D^2."""
    single_blocks: int
    """24 N D^2 each: queries, keys and values 3 N D^2 products, the MLP's halves 4, the joint output 5."""
    attention: int
    """4 N^2 D a block: scores and the weighted sum."""
    head: int
    """See `head_flops`, at every position of the grid that the blocks give back."""
    embedding: int
    """Token convolution 2 T D^2, compression both ways, projections of text and image."""
    conditioning: int
    """Embeddings of timestep, pooled text and micro-conditions, and the blocks' modulations."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, field.name) for field in dataclasses.fields(self))

    @property
    def without_head(self) -> int:
        """What is left if the head runs elsewhere."""
        return self.total - self.head


def block_flops(width: int, num_positions: int) -> int:
    """A block of either kind without attention and modulation: 24 N D^2."""
    return 24 * num_positions * width**2


def attention_flops(width: int, num_positions: int) -> int:
    """Attention of one block: N^2 D multiply-adds for the scores and as many for the sum, 4 N^2 D."""
    return 4 * num_positions**2 * width


def forward_flops(
    config: TransformerConfig, height: int, width: int, num_text: int = TEXT_LENGTH
) -> ForwardCost:
    """One forward with the head at every position, for a grid of `height` x `width` tokens.

    Compression: n = ceil(H/2) ceil(W/2) positions stand for the grid. The 2x2 stride-2 convolution costs
    8 n D^2, its transposed counterpart the same, after which the grid has 4n tokens.
    """
    d, tokens = config.width, height * width
    compressed = math.ceil(height / 2) * math.ceil(width / 2)
    image = compressed if config.downsample else tokens
    positions = num_text + image
    num_blocks = config.num_layers + config.num_single_layers
    embedding = 2 * tokens * d**2 + 2 * 2 * image * d**2 + 2 * num_text * config.joint_attention_dim * d
    if config.downsample:
        embedding += 2 * 8 * compressed * d**2
    num_chunks = 2 * 6 * config.num_layers + 3 * config.num_single_layers
    micro = (d + NUM_MICRO_CONDITIONS * SINUSOID_WIDTH) * d + d**2
    time_and_text = SINUSOID_WIDTH * d + 3 * d**2
    grid = 4 * compressed if config.downsample else tokens
    return ForwardCost(
        double_blocks=config.num_layers * block_flops(d, positions),
        single_blocks=config.num_single_layers * block_flops(d, positions),
        attention=num_blocks * attention_flops(d, positions),
        head=head_flops(config, grid, grid),
        embedding=embedding,
        conditioning=2 * (micro + time_and_text + num_chunks * d**2),
    )


def head_flops(config: TransformerConfig, num_features: int, num_logits: int) -> int:
    """The head: its first convolution 2 D^2 a position, its second 2 D V a position.

    Args:
        config: of the transformer.
        num_features: positions that the first runs at; both halves of a guided pair count.
        num_logits: positions that the second runs at.
    """
    d = config.width
    return 2 * num_features * d**2 + 2 * num_logits * d * config.codebook_size


def sampling_flops(
    config: TransformerConfig,
    height: int,
    width: int,
    masked_counts: Sequence[int],
    *,
    guided: bool = True,
    num_text: int = TEXT_LENGTH,
) -> int:
    """One sample as our sampler computes it, without text encoder and VQ decoder.

    Each step: the blocks for both halves of the guided pair, the head's first product for both and its last
    product once, both at the positions that are masked when the step begins.

    Args:
        config: of the transformer.
        height: of the token grid.
        width: of the token grid.
        masked_counts: masked positions at each step's beginning (`meissonic.masking.masked_counts`).
        guided: whether there is an unconditional half.
        num_text: text positions.
    """
    halves = 2 if guided else 1
    blocks = halves * forward_flops(config, height, width, num_text).without_head
    return sum(blocks + head_flops(config, halves * count, count) for count in masked_counts)


def training_flops(
    config: TransformerConfig, height: int, width: int, num_masked: float, num_text: int = TEXT_LENGTH
) -> float:
    """A step's products for one sample: the forward, and twice as much for the gradients.

    The head counts at the masked positions alone, where the loss is; recomputed activations do not count.

    Args:
        config: of the transformer.
        height: of the token grid.
        width: of the token grid.
        num_masked: masked positions, on average.
        num_text: text positions.
    """
    d = config.width
    head = num_masked * (2 * d**2 + 2 * d * config.codebook_size)
    return 3 * (forward_flops(config, height, width, num_text).without_head + head)


def plain_sampling_flops(
    config: TransformerConfig,
    height: int,
    width: int,
    num_steps: int,
    *,
    guided: bool = True,
    num_text: int = TEXT_LENGTH,
) -> int:
    """One sample with whole forwards: steps x halves x `forward_flops`."""
    return num_steps * (2 if guided else 1) * forward_flops(config, height, width, num_text).total


def vq_decode_flops(config: VQConfig, height: int, width: int) -> int:
    """Decoding a grid of `height` x `width` tokens: 18 c_in c_out a pixel for each 3x3 convolution."""
    pixels, channels = height * width, config.block_out_channels[::-1]
    flops = 2 * pixels * config.latent_channels**2
    flops += _conv3(config.latent_channels, channels[0], pixels) + _mid(channels[0], pixels)
    before = channels[0]
    for level, after in enumerate(channels):
        for index in range(config.layers_per_block + 1):
            flops += _resnet(before if index == 0 else after, after, pixels)
        before = after
        if level < len(channels) - 1:
            pixels *= 4
            flops += _conv3(after, after, pixels)
    return flops + _conv3(channels[-1], config.out_channels, pixels)


def vq_encode_flops(config: VQConfig, height: int, width: int) -> int:
    """Encoding to a grid of `height` x `width` tokens, the search for the nearest codes left out."""
    channels = config.block_out_channels
    pixels = height * width * config.factor**2
    flops = _conv3(config.in_channels, channels[0], pixels)
    before = channels[0]
    for level, after in enumerate(channels):
        for index in range(config.layers_per_block):
            flops += _resnet(before if index == 0 else after, after, pixels)
        before = after
        if level < len(channels) - 1:
            pixels //= 4
            flops += _conv3(after, after, pixels)
    flops += _mid(channels[-1], pixels) + _conv3(channels[-1], config.latent_channels, pixels)
    return flops + 2 * pixels * config.latent_channels**2


def text_flops(config: TextConfig) -> int:
    """One text: a layer has 8 L D^2 for projections, 4 L D D_mlp for its MLP, 4 L^2 D for attention."""
    length, d = config.max_position_embeddings, config.hidden_size
    layer = 8 * length * d**2 + 4 * length * d * config.intermediate_size + 4 * length**2 * d
    return config.num_hidden_layers * layer + 2 * d * config.projection_dim


def _conv3(in_channels: int, out_channels: int, pixels: int) -> int:
    return 2 * 9 * in_channels * out_channels * pixels


def _resnet(in_channels: int, out_channels: int, pixels: int) -> int:
    shortcut = 2 * in_channels * out_channels * pixels if in_channels != out_channels else 0
    return _conv3(in_channels, out_channels, pixels) + _conv3(out_channels, out_channels, pixels) + shortcut


def _mid(channels: int, pixels: int) -> int:
    return 2 * _resnet(channels, channels, pixels)

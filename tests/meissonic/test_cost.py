"""The cost formulas against the published table, and against a count of the model's own products."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from meissonic import cost
from meissonic.config import TextConfig, TransformerConfig, VQConfig
from meissonic.masking import masked_counts
from meissonic.text import TextEncoder
from meissonic.transformer import Transformer
from meissonic.vq import VQModel

RELEASED = TransformerConfig()
SMALL = {
    "compressed": TransformerConfig(
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 6, 6),
        vocab_size=80,
        codebook_size=64,
    ),
    "uncompressed": TransformerConfig(
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 6, 6),
        vocab_size=80,
        codebook_size=64,
        downsample=False,
        upsample=False,
    ),
}
SMALL_VQ = VQConfig(
    block_out_channels=(8, 8, 16, 24),
    layers_per_block=2,
    latent_channels=8,
    num_vq_embeddings=64,
    norm_num_groups=4,
)


def tera(flops: int) -> float:
    return round(flops / 1e12, 3)


def test_released_forward_at_1024_px_is_as_published() -> None:
    forward = cost.forward_flops(RELEASED, 64, 64)
    assert tera(forward.double_blocks) == 0.388
    assert tera(forward.single_blocks) == 0.776
    assert tera(forward.attention) == 0.209
    assert tera(forward.head) == 0.077
    assert tera(cost.head_flops(RELEASED, 4096, 0)) == 0.009
    assert tera(cost.head_flops(RELEASED, 0, 4096)) == 0.069
    assert tera(forward.embedding) == 0.030
    assert tera(forward.total) == 1.480


def test_released_forward_at_512_px_without_compression_is_as_published() -> None:
    config = TransformerConfig(downsample=False, upsample=False)
    forward = cost.forward_flops(config, 32, 32)
    # the published figure leaves the conditioning out
    assert tera(forward.total - forward.conditioning) == 1.398


def test_released_vq_model_and_text_encoder_are_as_published() -> None:
    assert round(cost.vq_decode_flops(VQConfig(), 64, 64) / 1e12, 1) == 7.6
    assert round(cost.vq_encode_flops(VQConfig(), 64, 64) / 1e12, 1) == 3.5
    assert tera(cost.text_flops(TextConfig())) == 0.047


def test_one_released_image_as_written_is_as_published() -> None:
    sampling = cost.plain_sampling_flops(RELEASED, 64, 64, 48)
    decoding = cost.vq_decode_flops(VQConfig(), 64, 64)
    assert round((sampling + decoding + 2 * cost.text_flops(TextConfig())) / 1e12, 1) == 149.8


def test_head_at_masked_positions_alone_saves_most_of_its_cost() -> None:
    counts = masked_counts("cosine", 64 * 64, 48)
    assert round(sum(counts) / len(counts) / 4096, 3) == 0.647
    fast = cost.sampling_flops(RELEASED, 64, 64, counts)
    plain = cost.plain_sampling_flops(RELEASED, 64, 64, 48)
    head = 48 * 2 * cost.forward_flops(RELEASED, 64, 64).head
    # the last product runs once for both halves, and both products at the masked share
    assert (plain - fast) / head == pytest.approx(1 - 0.647 * (0.111 + 0.889 / 2), abs=0.002)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("grid", [(4, 6), (3, 5)])
def test_forward_is_what_torch_counts(name: str, grid: tuple[int, int]) -> None:
    config = SMALL[name]
    num_text = 7
    with torch.device("meta"):
        model = Transformer(config)
        tokens = torch.zeros(1, *grid, dtype=torch.int64)
        inputs = (torch.zeros(1, num_text, config.joint_attention_dim), torch.zeros(1, config.width))
        with FlopCounterMode(display=False) as counter:
            model(tokens, *inputs, torch.zeros(1, 5), torch.zeros(1))
    assert cost.forward_flops(config, *grid, num_text).total == counter.get_total_flops()


def test_training_is_three_forwards_with_the_head_at_masked_positions() -> None:
    forward = cost.forward_flops(RELEASED, 64, 64)
    assert cost.training_flops(RELEASED, 64, 64, 4096) == 3 * forward.total
    assert cost.training_flops(RELEASED, 64, 64, 0) == 3 * forward.without_head
    assert round(cost.training_flops(RELEASED, 64, 64, 0.64 * 4096) / 1e12, 2) == 4.36


@pytest.mark.parametrize("name", SMALL)
def test_training_is_what_torch_counts_but_for_gradients_of_conditions(name: str) -> None:
    config, num_text = SMALL[name], 7
    with torch.device("meta"):
        model = Transformer(config)
        tokens = torch.zeros(1, 8, 8, dtype=torch.int64)
        inputs = (torch.zeros(1, num_text, config.joint_attention_dim), torch.zeros(1, config.width))
        with FlopCounterMode(display=False) as counter:
            model(tokens, *inputs, torch.zeros(1, 5), torch.zeros(1)).sum().backward()
    formula = cost.training_flops(config, 8, 8, 64, num_text)
    # flash attention computes the scores again in the backward pass; what needs no gradient has none
    assert counter.get_total_flops() == pytest.approx(formula, rel=0.05)


def test_vq_decoding_and_encoding_are_what_torch_counts() -> None:
    with torch.device("meta"):
        model = VQModel(SMALL_VQ)
        with FlopCounterMode(display=False) as decoding:
            model.decode(torch.zeros(1, 3, 5, dtype=torch.int64))
        with FlopCounterMode(display=False) as encoding:
            model.latents(torch.zeros(1, 3, 24, 40))
    assert cost.vq_decode_flops(SMALL_VQ, 3, 5) == decoding.get_total_flops()
    assert cost.vq_encode_flops(SMALL_VQ, 3, 5) == encoding.get_total_flops()


def test_text_is_what_torch_counts() -> None:
    config = TextConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=16,
        max_position_embeddings=9,
    )
    with torch.device("meta"):
        encoder = TextEncoder(config)
        with FlopCounterMode(display=False) as counter:
            encoder(torch.zeros(1, 9, dtype=torch.int64))
    assert cost.text_flops(config) == counter.get_total_flops()

"""Compression layers for a transformer that was trained without."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from meissonic import Meissonic
from meissonic.growing import with_compression
from meissonic.training import new_transformer
from meissonic.transformer import Transformer


@pytest.fixture
def small(model: Meissonic) -> Transformer:
    """A transformer without compression layers."""
    config = dataclasses.replace(model.transformer.config, downsample=False, upsample=False)
    return new_transformer(config, seed=0)


def test_all_other_weights_are_the_same_tensors(small: Transformer) -> None:
    grown = with_compression(small)
    assert (grown.config.downsample, grown.config.upsample) == (True, True)
    for name, weight in small.named_parameters():
        assert grown.get_parameter(name).data_ptr() == weight.data_ptr(), name
    own = {name for name, _ in grown.named_parameters()} - {name for name, _ in small.named_parameters()}
    assert own
    assert all(name.startswith(("down_block.", "up_block.")) for name in own)
    assert all(not weight.is_meta for weight in grown.state_dict().values())


def test_the_blocks_see_the_mean_of_the_normed_tokens(small: Transformer) -> None:
    grown = with_compression(small)
    assert grown.down_block is not None
    tokens = torch.randint(small.config.codebook_size, (2, 4, 4), generator=torch.Generator().manual_seed(0))
    image = small.embed(tokens)
    normed = image * (image.pow(2).mean(1, keepdim=True) + 1e-6).rsqrt()
    expected = torch.nn.functional.avg_pool2d(normed, 2)
    torch.testing.assert_close(grown.down_block(image), expected, atol=1e-5, rtol=1e-5)


def test_the_head_sees_the_same_features_for_each_of_the_four(small: Transformer) -> None:
    grown = with_compression(small)
    assert grown.up_block is not None
    image = torch.randn(2, small.config.width, 2, 2, generator=torch.Generator().manual_seed(0))
    normed = image * (image.pow(2).mean(1, keepdim=True) + 1e-6).rsqrt()
    expected = normed.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(grown.up_block(image), expected, atol=1e-5, rtol=1e-5)


def test_its_logits_are_finite_and_those_of_a_whole_grid(small: Transformer) -> None:
    config = small.config
    conditions = (torch.randn(2, 7, config.joint_attention_dim), torch.randn(2, config.width))
    tokens = torch.zeros(2, 4, 6, dtype=torch.int64)
    logits = with_compression(small)(tokens, *conditions, torch.zeros(2, 5), torch.full((2,), 500.0))
    assert logits.shape == (2, config.codebook_size, 4, 6)
    assert logits.isfinite().all()


def test_it_stays_trainable_or_frozen(small: Transformer) -> None:
    assert all(p.requires_grad for p in with_compression(small.train()).parameters())
    frozen = with_compression(copy.deepcopy(small).requires_grad_(False).eval())
    assert not frozen.training
    assert not any(p.requires_grad for p in frozen.parameters())


def test_growing_twice_is_refused(small: Transformer) -> None:
    with pytest.raises(ValueError, match="already"):
        with_compression(with_compression(small))

"""Models of any size with random weights, made on their device: speed does not depend on what was learnt."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from meissonic import Meissonic, SchedulerConfig, TextConfig, TransformerConfig, VQConfig
from meissonic.text import TextEncoder, Tokenizer
from meissonic.transformer import Transformer
from meissonic.vq import VQModel

TOKENIZER = Path(__file__).parents[1] / "tests" / "assets" / "golden" / "tiny" / "tokenizer"
"""Any CLIP tokenizer of 77 positions will do."""
TOKENIZER_VOCAB = 610

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def random_model(
    transformer: TransformerConfig,
    vq: VQConfig,
    text: TextConfig,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> Meissonic:
    """A whole model, in evaluation mode."""
    return Meissonic(
        transformer=random_module(Transformer, transformer, dtype, device, seed),
        vq=random_module(VQModel, vq, dtype, device, seed),
        text_encoder=random_text_encoder(text, dtype, device, seed),
        tokenizer=Tokenizer.from_folder(TOKENIZER),
        scheduler=SchedulerConfig(mask_token_id=transformer.vocab_size - 1),
    )


def random_text_encoder(
    config: TextConfig,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> TextEncoder:
    """A text tower, in evaluation mode."""
    encoder = random_module(TextEncoder, config, dtype, device, seed)
    # a buffer, not a weight
    encoder.tower.attn_mask = encoder.tower.build_causal_mask().to(device, dtype)
    return encoder


def random_module(
    module: type[ModuleT],
    config: object,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> ModuleT:
    """`module(config)` with random weights, without ever holding fp32 weights or weights elsewhere."""
    with torch.device("meta"):
        made = module(config)
    return random_weights(made.to(dtype).to_empty(device=device), seed)


@torch.no_grad()
def random_weights(module: ModuleT, seed: int = 0) -> ModuleT:
    """Fill a module: matrices with variance 1 / fan-in, to keep activations in range; norms 1, biases 0."""
    module.eval().requires_grad_(False)
    parameters = dict(module.named_parameters())
    generator = torch.Generator(next(iter(parameters.values())).device).manual_seed(seed)
    for name, parameter in parameters.items():
        if parameter.ndim > 1:
            fan_in = 1 if "embedding" in name else math.prod(parameter.shape[1:])
            parameter.normal_(0.0, fan_in**-0.5, generator=generator)
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return module

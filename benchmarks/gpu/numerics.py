"""The golden model on the device against its recorded outputs and against the same model on the CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.gpu.scale import Scale
from benchmarks.timing import significant
from meissonic import Meissonic, Sampler, SamplerConfig, SampleRequest

GOLDEN = Path(__file__).parents[2] / "tests" / "assets" / "golden" / "tiny"
GRID = "transformer/8x8"
SAMPLES = 8


def measure(scale: Scale, device: str) -> dict[str, Any]:
    """Logits, latents and pixels in fp32 and bf16, and tokens sampled in fp32.

    In fp32 convolutions may use TF32 on a GPU unless told not to; both ways are measured.
    """
    tensors = load_file(GOLDEN / "golden.safetensors")
    values: dict[str, Any] = json.loads((GOLDEN / "golden.json").read_text("utf-8"))
    result: dict[str, Any] = {"default_allows_tf32": _allows_tf32()}
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("float32_tf32_convolutions", torch.float32, True),
        ("bfloat16", torch.bfloat16, True),
    ):
        with _tf32_convolutions(tf32):
            result[name] = _against_recorded(Meissonic.from_pretrained(GOLDEN, dtype, device), tensors)
            result[name] |= _against_cpu(dtype, device, values["text/prompts"])
    return result


@torch.inference_mode()
def _against_recorded(model: Meissonic, tensors: dict[str, Tensor]) -> dict[str, Any]:
    def there(name: str) -> Tensor:
        tensor = tensors[name].to(model.device)
        return tensor.to(model.dtype) if tensor.is_floating_point() else tensor

    names = ("tokens", "encoder_hidden_states", "pooled", "micro_conds", "scalar_t/timestep")
    recorded = "_bf16" if model.dtype == torch.bfloat16 else ""
    logits = model.transformer(*(there(f"{GRID}/{name}") for name in names))
    codes = model.vq.encode(there("vqvae/pixels")).cpu()
    hidden, pooled = model.text_encoder(there("text/input_ids"))
    return {
        "text_hidden": _difference(hidden, tensors["text/hidden_penultimate"]),
        "text_pooled": _difference(pooled, tensors["text/text_embeds"]),
        # in bf16 the timestep's product with 1000 is rounded, in the recording too
        "logits": _difference(logits, tensors[f"{GRID}/scalar_t/logits{recorded}"].float()),
        "vq_latents": _difference(model.vq.latents(there("vqvae/pixels")), tensors["vqvae/latents"]),
        "vq_codes_equal": _share_equal(codes, tensors["vqvae/token_ids"]),
        "vq_pixels": _difference(model.vq.decode(there("vqvae/decode_tokens")), tensors["vqvae/decode_raw"]),
    }


def _against_cpu(dtype: torch.dtype, device: str, prompts: list[str]) -> dict[str, Any]:
    """Tokens sampled with the same seeds and batch size on the device and on the CPU."""
    here, there = (_tokens(Meissonic.from_pretrained(GOLDEN, dtype, d), prompts) for d in ("cpu", device))
    return {"sampled_tokens_equal_to_cpu": _share_equal(here, there)}


def _tokens(model: Meissonic, prompts: list[str]) -> Tensor:
    side = 8 * model.vq.config.factor
    config = SamplerConfig(num_steps=6, guidance_scale=3.0)
    wanted = [
        SampleRequest(prompt=prompts[i % len(prompts)], seed=i, width=side, height=side, config=config)
        for i in range(SAMPLES)
    ]
    return torch.cat([tokens.cpu() for _, tokens in Sampler(model).sample(wanted, batch_size=SAMPLES)])


def _difference(actual: Tensor, expected: Tensor) -> dict[str, float]:
    actual = actual.float().cpu()
    both = torch.stack([actual.flatten(), expected.flatten()])
    return {
        "largest": significant((actual - expected).abs().max().item()),
        "rms_by_std": significant(((actual - expected).square().mean().sqrt() / expected.std()).item()),
        "correlation": torch.corrcoef(both)[0, 1].item(),
    }


def _share_equal(a: Tensor, b: Tensor) -> float:
    return significant((a == b).float().mean().item())


def _allows_tf32() -> dict[str, bool]:
    return {
        "convolutions": torch.backends.cudnn.allow_tf32,
        "products": torch.backends.cuda.matmul.allow_tf32,
    }


@contextmanager
def _tf32_convolutions(allowed: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before

"""VQ encoding by the released configuration: images/s, share of the dense rate and memory, by precision.

In float32 convolutions do without TF32, as the tokenize job's. Codes are searched in float32 in every arm.
With random weights the nearest codes are nearer to each other than a trained model's: shares of equal codes
are a lower bound.
"""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.memory import peak_memory, unless_out_of_memory
from benchmarks.gpu.scale import Scale
from benchmarks.matmul import SquareProduct
from benchmarks.random_models import random_module
from benchmarks.timing import interleaved, ratios, significant, spread
from meissonic import cost
from meissonic.vq import Resnet, VQModel

LIMIT_S = 70.0
"""Arms that would begin later are left out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to encode."""

    weights: torch.dtype
    """Of the encoder; the codebook is float32."""
    autocast: bool = False
    """Products in bfloat16 whatever the weights, norms in float32: as the tokenize job does."""
    channels_last: bool
    compiled: bool = False

    @property
    def name(self) -> str:
        """Its name in the results."""
        dtype = "autocast" if self.autocast else str(self.weights).removeprefix("torch.")
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{dtype}_{layout}" + ("_compiled" if self.compiled else "")

    @property
    def products(self) -> torch.dtype:
        """Of its convolutions."""
        return torch.bfloat16 if self.autocast else self.weights


def measure(scale: Scale, device: str) -> dict[str, Any]:
    """All arms by side and batch size; one that fails says why, and the others go on."""
    began = time.monotonic()
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        exact = {
            side: _encode(_model(scale, device, EXACT), _pixels(side, sizes[0], device, EXACT), EXACT)
            for side, sizes in scale.tokenizing
        }
        result: dict[str, Any] = {}
        for arm in ARMS if scale.compiles else [arm for arm in ARMS if not arm.compiled]:
            if time.monotonic() - began > LIMIT_S:
                result[arm.name] = {"left_out": f"{LIMIT_S:g} s had passed"}
                continue
            try:
                # a Resnet is compiled once for each resolution and number of channels
                with torch._dynamo.config.patch(recompile_limit=64):
                    result[arm.name] = _measured(scale, device, arm, exact)
            except Exception as error:  # a compiler may fail in any way
                result[arm.name] = {"error": f"{type(error).__name__}: {error}"}
        return result
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


EXACT = Arm(weights=torch.float32, channels_last=False)
ARMS = (
    Arm(weights=torch.bfloat16, channels_last=True, compiled=True),
    Arm(weights=torch.bfloat16, channels_last=False, compiled=True),
    Arm(weights=torch.float32, autocast=True, channels_last=True, compiled=True),
    Arm(weights=torch.bfloat16, channels_last=False),
    Arm(weights=torch.float32, autocast=True, channels_last=False),
    Arm(weights=torch.bfloat16, channels_last=True),
    EXACT,
)


def _measured(scale: Scale, device: str, arm: Arm, exact: dict[int, Tensor]) -> dict[str, Any]:
    model = _model(scale, device, arm)
    product = SquareProduct(max(scale.matmul_sizes), arm.products, device, products=scale.matmul_products)
    found: dict[str, Any] = {}
    for side, sizes in scale.tokenizing:
        # float32 takes long, and each size is compiled for: one tells enough
        chosen = sizes[:1] if arm.products == torch.float32 else sizes[1:2] if arm.compiled else sizes
        for batch_size in chosen:
            at = partial(_at, model, scale, device, arm, side, batch_size, exact[side], product)
            found[f"{side}px_{batch_size}"] = unless_out_of_memory(at)
    return found


def _at(
    model: VQModel,
    scale: Scale,
    device: str,
    arm: Arm,
    side: int,
    batch_size: int,
    exact: Tensor,
    product: SquareProduct,
) -> dict[str, Any]:
    pixels = _pixels(side, batch_size, device, arm)
    codes = _encode(model, pixels, arm)
    equal = codes[: len(exact)] == exact
    encode = partial(_encode, model, pixels, arm)
    memory = peak_memory(device, encode)
    seconds = interleaved(
        {"matmul": product, "encode": encode}, repetitions=scale.repetitions, device=device, warmups=0
    ).wall
    grid = side // scale.vq.factor
    flops = batch_size * cost.vq_encode_flops(scale.vq, grid, grid)
    return memory | {
        "seconds": spread(seconds["encode"]),
        "images_per_s": spread([batch_size / s for s in seconds["encode"]]),
        "fraction_of_matmul_rate": spread(
            ratios([flops / s for s in seconds["encode"]], [product.flops / s for s in seconds["matmul"]])
        ),
        "codes_equal_to_float32": significant(equal.float().mean().item()),
    }


def _model(scale: Scale, device: str, arm: Arm) -> VQModel:
    model = random_module(VQModel, scale.vq, device=device)
    model.encoder.to(arm.weights)
    model.quant_conv.to(arm.weights)
    if arm.channels_last:
        model.to(memory_format=torch.channels_last)
    if arm.compiled:
        torch.compiler.reset()
        for part in model.encoder.modules():
            if isinstance(part, Resnet):
                part.compile(dynamic=False)
    return model


def _pixels(side: int, batch_size: int, device: str, arm: Arm) -> Tensor:
    """The same images at the front of every batch size."""
    generator = torch.Generator(device).manual_seed(0)
    images = [torch.rand(3, side, side, generator=generator, device=device) for _ in range(batch_size)]
    layout = torch.channels_last if arm.channels_last else torch.contiguous_format
    return torch.stack(images).to(arm.weights).contiguous(memory_format=layout)


@torch.inference_mode()
def _encode(model: VQModel, pixels: Tensor, arm: Arm) -> Tensor:
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=arm.autocast):
        latents = model.latents(pixels)
    return model.nearest_codes(latents.float())

"""The rate of large dense matrix products, which everything else is compared with."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu.scale import DTYPE, Scale
from benchmarks.matmul import SquareProduct
from benchmarks.timing import interleaved, significant, spread


def measure(scale: Scale, device: str) -> dict[str, Any]:
    """TFLOP/s in bfloat16 and in float32 with its full precision, by size."""
    rates: dict[str, Any] = {}
    for dtype in (DTYPE, torch.float32):
        for size in scale.matmul_sizes:
            product = SquareProduct(size, dtype, device, products=scale.matmul_products)
            seconds = interleaved({"matmul": product}, repetitions=5, device=device).wall["matmul"]
            name = f"{str(dtype).removeprefix('torch.')}_{size}"
            rates[name] = spread([product.flops / s / 1e12 for s in seconds])
    best = max(rate["median"] for name, rate in rates.items() if name.startswith("bfloat16"))
    return {"tflop_per_s": rates, "best_bfloat16_tflop_per_s": significant(best)}

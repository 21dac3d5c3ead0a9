"""Sampling by the released configuration: images/s, share of the dense rate and memory, by batch size."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.gpu.memory import peak_memory, unless_out_of_memory
from benchmarks.gpu.scale import DTYPE, Scale, main_model, requests
from benchmarks.matmul import SquareProduct
from benchmarks.timing import interleaved, ratios, spread
from meissonic import Meissonic, cost
from meissonic.masking import masked_counts
from meissonic.noise import PhiloxNoise
from meissonic.sampling import batch_shape, encode_text, prepare_batch, sample_tokens


def measure(scale: Scale, device: str) -> dict[str, Any]:
    """All steps at every batch size: text encoder apart, VQ decoder in a measurement of its own."""
    model = main_model(scale, device)
    return {
        str(batch_size): unless_out_of_memory(partial(_at, model, scale, device, batch_size))
        for batch_size in scale.batch_sizes
    }


def _at(model: Meissonic, scale: Scale, device: str, batch_size: int) -> dict[str, Any]:
    wanted = requests(scale, batch_size, scale.num_steps)
    seeds = [request.seed for request in wanted]
    batch = prepare_batch(model, wanted, batch_shape(model, wanted[0]), PhiloxNoise(seeds, device))

    def run() -> None:
        sample_tokens(model, batch, PhiloxNoise(seeds, device))

    # the first run, which also finds its kernels, does not count
    memory = peak_memory(device, run)
    product = SquareProduct(max(scale.matmul_sizes), DTYPE, device, products=scale.matmul_products)
    product()
    seconds = interleaved(
        {
            "matmul": product,
            "text": lambda: encode_text(model, [request.prompt for request in wanted]),
            "sample": run,
        },
        repetitions=scale.repetitions,
        device=device,
        warmups=0,
    ).wall
    grid = scale.side // scale.vq.factor
    counts = masked_counts("cosine", grid * grid, scale.num_steps)
    computed = batch_size * cost.sampling_flops(scale.transformer, grid, grid, counts)
    as_written = batch_size * cost.plain_sampling_flops(scale.transformer, grid, grid, scale.num_steps)
    matmul_rates = [product.flops / s for s in seconds["matmul"]]
    return memory | {
        "sample_seconds": spread(seconds["sample"]),
        "text_seconds": spread(seconds["text"]),
        "images_per_s": spread([batch_size / s for s in seconds["sample"]]),
        "tflop_computed_per_image": computed / batch_size / 1e12,
        "tflop_as_written_per_image": as_written / batch_size / 1e12,
        "matmul_tflop_per_s": spread([rate / 1e12 for rate in matmul_rates]),
        "fraction_of_matmul_rate": spread(ratios([computed / s for s in seconds["sample"]], matmul_rates)),
        "fraction_of_matmul_rate_as_written": spread(
            ratios([as_written / s for s in seconds["sample"]], matmul_rates)
        ),
    }

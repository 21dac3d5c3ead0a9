"""How fast images are sampled on CPUs: `python -m benchmarks.sampling`.

First the parts of the released configuration, one sample at 1024 px. Then a mid-size model whole, by the
project's sampler and by the plain one of `benchmarks/plain_sampler.py`. Everything runs in one process and in
turns with a large matrix product of the same dtype and thread count, whose rate is what the machine can do.
Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.matmul import SquareProduct
from benchmarks.plain_sampler import (
    GeneratorNoise,
    SharedNoise,
    plain_batch,
    plain_logits,
    plain_sample_tokens,
)
from benchmarks.random_models import TOKENIZER_VOCAB, random_model, random_module, random_weights
from benchmarks.record import RESULTS, load_average, write_result
from benchmarks.timing import Timings, interleaved, ratios, significant, spread
from meissonic import (
    Meissonic,
    Sampler,
    SamplerConfig,
    SampleRequest,
    TextConfig,
    TransformerConfig,
    VQConfig,
    cost,
)
from meissonic.inference import Reductions
from meissonic.layers import rope_table
from meissonic.masking import masked_counts
from meissonic.noise import PhiloxNoise
from meissonic.requests import batch_shape
from meissonic.transformer import DoubleBlock, Head, SingleBlock, position_ids
from meissonic.vq import VQModel

RELEASED, RELEASED_VQ = TransformerConfig(), VQConfig()
GRID = 64
"""Tokens along a side of the released model's images."""
NUM_STEPS = 48
MASKED_FRACTION = 0.647
"""Mean over the 48 steps of the cosine schedule."""
GUIDANCE_SCALE = 9.0

MID_SIZE = TransformerConfig(
    num_layers=6,
    num_single_layers=12,
    attention_head_dim=64,
    num_attention_heads=8,
    joint_attention_dim=512,
    pooled_projection_dim=512,
    axes_dims_rope=(16, 24, 24),
    downsample=False,
    upsample=False,
)
MID_SIZE_GRID = 16
MID_SIZE_STEPS = 12
MID_SIZE_TEXT = TextConfig(
    vocab_size=TOKENIZER_VOCAB,
    hidden_size=512,
    intermediate_size=2048,
    num_hidden_layers=2,
    num_attention_heads=8,
    projection_dim=512,
)
MID_SIZE_VQ = VQConfig(block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1, norm_num_groups=4)
"""Stands in: sampling ends at the tokens here."""
PROMPTS = ("a lighthouse on a cliff at dusk", "two red foxes asleep in the snow")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """What one group of measurements runs with."""

    dtype: torch.dtype
    num_threads: int

    @property
    def dtype_name(self) -> str:
        """As in `float32`."""
        return str(self.dtype).removeprefix("torch.")


def measure(
    cell: Cell,
    arms: dict[str, tuple[Callable[[], object], int]],
    *,
    repetitions: int,
    matmul_size: int,
    warmups: int = 1,
) -> tuple[dict[str, Any], Timings]:
    """Time arms, given with their FLOPs, in turns with a matrix product; also the seconds of every run."""
    torch.set_num_threads(cell.num_threads)
    product = SquareProduct(matmul_size, cell.dtype)
    runs: dict[str, Callable[[], object]] = {"matmul": product}
    runs |= {name: run for name, (run, _) in arms.items()}
    product()
    load_before = load_average()
    timings = interleaved(runs, repetitions, warmups=warmups)
    cpu, wall = (sum(map(sum, seconds.values())) for seconds in (timings.cpu, timings.wall))
    matmul_rates = [product.flops / s for s in timings.wall["matmul"]]
    result: dict[str, Any] = {
        "dtype": cell.dtype_name,
        "num_threads": cell.num_threads,
        "load_average": {"before": load_before, "after": load_average()},
        # below 1 the threads waited for a CPU: other processes had it
        "cpu_share": significant(cpu / wall / cell.num_threads, 3),
        "matmul_gflop_per_s": spread([rate / 1e9 for rate in matmul_rates]),
        "arms": {},
    }
    for name, (_, flops) in arms.items():
        rates = [flops / s for s in timings.wall[name]]
        result["arms"][name] = {
            "gflop": significant(flops / 1e9, 5),
            "seconds": spread(timings.wall[name]),
            "cpu_seconds": spread(timings.cpu[name]),
            "fraction_of_matmul_rate": spread(ratios(rates, matmul_rates)),
            "fraction_of_matmul_rate_in_cpu_seconds": spread(
                [
                    flops * m / product.flops / s
                    for s, m in zip(timings.cpu[name], timings.cpu["matmul"], strict=True)
                ]
            ),
        }
    return result, timings


def speedup(timings: Timings, over: str, under: str) -> dict[str, Any]:
    """Quotients of two arms' seconds, round by round."""
    return {
        "speedup": spread(ratios(timings.wall[over], timings.wall[under])),
        "speedup_in_cpu_seconds": spread(ratios(timings.cpu[over], timings.cpu[under])),
    }


@torch.inference_mode()
def released_parts(cell: Cell, *, repetitions: int, matmul_size: int) -> dict[str, Any]:
    """A double block, a single block and the head of the released configuration, one sample at 1024 px."""
    width, head_dim, side = RELEASED.width, RELEASED.attention_head_dim, GRID // 2
    num_text, num_image = cost.TEXT_LENGTH, side * side
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(cell.dtype)

    double = random_weights(DoubleBlock(width, head_dim).to(cell.dtype))
    single = random_weights(SingleBlock(width, head_dim).to(cell.dtype))
    head = random_weights(Head(width, RELEASED.codebook_size).to(cell.dtype))
    image, text, temb = normal(1, num_image, width), normal(1, num_text, width), normal(1, width)
    rope = rope_table(position_ids(num_text, side, side, torch.device("cpu")), RELEASED.axes_dims_rope)
    joined = torch.cat([text, image], dim=1)
    hidden = normal(2, GRID * GRID, width)
    masked = round(MASKED_FRACTION * GRID * GRID)
    positions = torch.randperm(GRID * GRID, generator=generator)[:masked].sort().values

    def head_everywhere() -> Tensor:
        unconditional, conditional = head.logits(head.features(hidden)).float().chunk(2)
        return unconditional + GUIDANCE_SCALE * (conditional - unconditional)

    def head_masked() -> Tensor:
        unconditional, conditional = head.features(hidden[:, positions]).float().chunk(2)
        guided = unconditional + GUIDANCE_SCALE * (conditional - unconditional)
        return head.logits(guided.to(cell.dtype)).float()

    block = cost.block_flops(width, num_text + num_image) + cost.attention_flops(width, num_text + num_image)
    arms: dict[str, tuple[Callable[[], object], int]] = {
        "double_block": (lambda: double(image, text, temb, rope), block + 2 * 12 * width**2),
        "single_block": (lambda: single(joined, temb, rope), block + 2 * 3 * width**2),
        "head_both_halves_everywhere": (
            head_everywhere,
            cost.head_flops(RELEASED, 2 * GRID * GRID, 2 * GRID * GRID),
        ),
        "head_guided_first_at_masked": (head_masked, cost.head_flops(RELEASED, 2 * masked, masked)),
    }
    result, timings = measure(cell, arms, repetitions=repetitions, matmul_size=matmul_size)
    result["head"] = speedup(timings, "head_both_halves_everywhere", "head_guided_first_at_masked")
    return result


@torch.inference_mode()
def released_vq(cell: Cell, *, repetitions: int, matmul_size: int, grid: int = GRID) -> dict[str, Any]:
    """Decoding one image by the released VQ configuration."""
    vq = random_module(VQModel, RELEASED_VQ, cell.dtype)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(RELEASED_VQ.num_vq_embeddings, (1, grid, grid), generator=generator)
    arms: dict[str, tuple[Callable[[], object], int]] = {
        "vq_decode": (lambda: vq.decode(tokens), cost.vq_decode_flops(RELEASED_VQ, grid, grid))
    }
    # a whole decoding is too long for a warm-up
    vq.decode(tokens[:, :8, :8])
    return measure(cell, arms, repetitions=repetitions, matmul_size=matmul_size, warmups=0)[0]


def released_image_s(parts: dict[str, Any], vq: dict[str, Any]) -> float:
    """Seconds that a whole image of the released model would take: sums of the parts' medians, not measured.

    Text encoder, embedding, projections and draws, some 2 % of the operations, are left out.
    """
    median = {name: arm["seconds"]["median"] for name, arm in (parts["arms"] | vq["arms"]).items()}
    blocks = (
        RELEASED.num_layers * median["double_block"] + RELEASED.num_single_layers * median["single_block"]
    )
    steps = NUM_STEPS * (2 * blocks + median["head_guided_first_at_masked"])
    return significant(steps + median["vq_decode"])


def mid_size_model(dtype: torch.dtype) -> Meissonic:
    """The mid-size model with random weights."""
    return random_model(MID_SIZE, MID_SIZE_VQ, MID_SIZE_TEXT, dtype=dtype)


def mid_size_requests(batch_size: int) -> list[SampleRequest]:
    """Guided text-to-image."""
    side = MID_SIZE_GRID * MID_SIZE_VQ.factor
    config = SamplerConfig(num_steps=MID_SIZE_STEPS, guidance_scale=GUIDANCE_SCALE)
    return [
        SampleRequest(prompt=PROMPTS[i % len(PROMPTS)], seed=i, width=side, height=side, config=config)
        for i in range(batch_size)
    ]


def samplers(
    cell: Cell, *, repetitions: int, matmul_size: int, batch_size: int, apart: bool = False
) -> dict[str, Any]:
    """The mid-size model by both samplers, each with its own noise; texts are encoded beforehand.

    `apart`: also with each reduction turned off alone.
    """
    model = mid_size_model(cell.dtype)
    requests = mid_size_requests(batch_size)
    noise = PhiloxNoise(range(batch_size), "cpu")
    side = MID_SIZE_GRID
    counts = masked_counts("cosine", side * side, MID_SIZE_STEPS)
    plain, plain_flops = (
        plain_batch(model, requests),
        cost.plain_sampling_flops(MID_SIZE, side, side, MID_SIZE_STEPS),
    )
    flops = cost.sampling_flops(MID_SIZE, side, side, counts)
    arms: dict[str, tuple[Callable[[], object], int]] = {
        "plain": (
            lambda: plain_sample_tokens(model, plain, GeneratorNoise(batch_size, 0)),
            batch_size * plain_flops,
        )
    }
    reductions = {"fast": Reductions()}
    if apart:
        names = [field.name for field in dataclasses.fields(Reductions)]
        reductions |= {
            f"without_{name}": Reductions().without(name) for name in names if name != "cached_text"
        }
    for name, chosen in reductions.items():
        sampler = Sampler(model, reductions=chosen)
        batch = sampler.prepare(requests, batch_shape(model, requests[0]), noise)
        arms[name] = (functools.partial(sampler.run, batch, noise), batch_size * flops)
    result, timings = measure(cell, arms, repetitions=repetitions, matmul_size=matmul_size)
    for name in arms:
        result["arms"][name]["images_per_s"] = spread([batch_size / s for s in timings.wall[name]])
    result["batch_size"] = batch_size
    result["speedup_by_flops"] = significant(plain_flops / flops)
    result["gain_of"] = {
        name.removeprefix("without_"): speedup(timings, name, "fast")
        for name in arms
        if name.startswith("without")
    }
    return result | speedup(timings, "plain", "fast")


@torch.inference_mode()
def agreement(dtype: torch.dtype, num_threads: int = 1) -> dict[str, Any]:
    """Whether both samplers make the same tokens of the same noise, and how far their logits are apart.

    Logits are compared at each step's masked positions, both samplers given the plain one's tokens.
    """
    torch.set_num_threads(num_threads)
    model = mid_size_model(dtype)
    requests = mid_size_requests(1)
    noise = SharedNoise(1, MID_SIZE_GRID**2, MID_SIZE.codebook_size, "cpu")
    trajectory: list[Tensor] = []
    whole = plain_batch(model, requests)
    plain = plain_sample_tokens(model, whole, noise, trajectory)
    sampler = Sampler(model)
    batch = sampler.prepare(requests, batch_shape(model, requests[0]), noise)
    fast = sampler.run(batch, noise)
    difference, deviation, largest = 0.0, [], 0.0
    for step, tokens in enumerate([whole.tokens_BHW, *trajectory[:-1]]):
        masked = (tokens.flatten(1) == model.scheduler.mask_token_id).nonzero()[:, 1][None]
        ours = sampler.logits(batch, tokens, step, masked)
        theirs = plain_logits(model, whole, tokens, step)[:, masked[0]]
        difference = max(difference, (ours - theirs).abs().max().item())
        deviation.append((ours - theirs).square().mean().sqrt().item() / theirs.std().item())
        largest = max(largest, theirs.abs().max().item())
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "tokens_equal": torch.equal(plain, fast),
        "share_of_tokens_equal": significant((plain == fast).float().mean().item()),
        "largest_logit": significant(largest),
        "largest_logit_difference": significant(difference),
        "rms_logit_difference_by_std": significant(max(deviation)),
    }


def table(measures: dict[str, Any]) -> str:
    """The medians, for people."""
    lines = []
    if measures["released_parts"]:
        lines = [
            "released configuration, one sample at 1024 px: seconds (share of the matrix product's rate)"
        ]
    for parts, vq in zip(measures["released_parts"], measures["released_vq"], strict=True):
        arms = (parts["arms"] | vq["arms"]).items()
        cells = "  ".join(
            f"{name} {arm['seconds']['median']:.3g} ({arm['fraction_of_matmul_rate']['median']:.0%})"
            for name, arm in arms
        )
        lines.append(f"  {parts['dtype']:<9} {parts['num_threads']} threads  {cells}")
    lines.append("mid-size model, whole images: images/s (share of the matrix product's rate)")
    for row in measures["samplers"]:
        fast, plain = row["arms"]["fast"], row["arms"]["plain"]
        ratio, cpu_ratio = row["speedup"], row["speedup_in_cpu_seconds"]
        cells = "  ".join(
            f"{name} {arm['images_per_s']['median']:.3g} ({arm['fraction_of_matmul_rate']['median']:.0%})"
            for name, arm in (("ours", fast), ("plain", plain))
        )
        lines.append(
            f"  {row['dtype']:<9} {row['num_threads']} threads batch {row['batch_size']}  {cells}  "
            f"ratio {ratio['median']:.3f} [{ratio['min']:.3f}, {ratio['max']:.3f}], in CPU seconds "
            f"{cpu_ratio['median']:.3f} [{cpu_ratio['min']:.3f}, {cpu_ratio['max']:.3f}], "
            f"had {row['cpu_share']:.0%} of its CPUs"
        )
    for row in measures["agreement"]:
        lines.append(
            f"agreement in {row['dtype']}: {row['share_of_tokens_equal']:.1%} of the tokens equal, "
            f"logits within {row['largest_logit_difference']:.2g} of up to {row['largest_logit']:.3g}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "sampling.json")
    parser.add_argument("--repetitions", type=int, default=5, help="of the parts and of the samplers")
    parser.add_argument("--vq-repetitions", type=int, default=2, help="of VQ decoding")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--matmul-size", type=int, default=4096, help="rows of the matrices")
    parser.add_argument("--batch-size", type=int, default=1, help="of the mid-size model")
    parser.add_argument(
        "--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"]
    )
    parser.add_argument("--mid-size", action="store_true", help="leave out the parts of the released model")
    parser.add_argument("--apart", action="store_true", help="also with each reduction turned off alone")
    options = parser.parse_args(arguments)

    dtypes = [getattr(torch, name) for name in options.dtypes]
    cells = [Cell(dtype=dtype, num_threads=threads) for threads in options.threads for dtype in dtypes]
    measures: dict[str, Any] = {
        name: [] for name in ("agreement", "samplers", "released_parts", "released_vq")
    }
    load_before = load_average()
    for dtype in dtypes:
        measures["agreement"].append(agreement(dtype))
    size, repetitions = options.matmul_size, options.repetitions
    for cell in cells:
        print(f"{cell.dtype_name}, {cell.num_threads} threads, load {load_average()}", flush=True)
        measures["samplers"].append(
            samplers(
                cell,
                repetitions=repetitions,
                matmul_size=size,
                batch_size=options.batch_size,
                apart=options.apart,
            )
        )
        if options.mid_size:
            continue
        parts = released_parts(cell, repetitions=repetitions, matmul_size=size)
        vq = released_vq(cell, repetitions=options.vq_repetitions, matmul_size=size)
        parts["estimated_seconds_per_released_image"] = released_image_s(parts, vq)
        measures["released_parts"].append(parts)
        measures["released_vq"].append(vq)
    settings = {
        "mid_size": MID_SIZE.to_json() | {"grid": MID_SIZE_GRID, "num_steps": MID_SIZE_STEPS},
        "released": RELEASED.to_json() | {"grid": GRID, "masked_fraction": MASKED_FRACTION},
        "guidance_scale": GUIDANCE_SCALE,
        "repetitions": repetitions,
        "vq_repetitions": options.vq_repetitions,
        "matmul_size": size,
        "load_average": {"before": load_before, "after": load_average()},
    }
    path = write_result("sampling", settings=settings, measures=measures, path=options.out)
    print(table(measures))
    print(path)


if __name__ == "__main__":
    main()

"""How fast images are sampled on CPUs: `python -m benchmarks.sampling`.

First the parts of the released configuration, one sample at 1024 px. Then a mid-size model whole, by the
project's sampler and by the plain one of `benchmarks/plain_sampler.py`. Everything runs in one process and in
turns with a large matrix product of the same dtype and thread count, whose rate is what the machine can do.
Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.cells import GUIDANCE_SCALE, Cell
from benchmarks.mid_size import MID_SIZE, MID_SIZE_GRID, MID_SIZE_STEPS, agreement, samplers
from benchmarks.record import RESULTS, load_average, write_result
from benchmarks.released_parts import (
    GRID,
    MASKED_FRACTION,
    RELEASED,
    released_image_s,
    released_parts,
    released_vq,
)


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

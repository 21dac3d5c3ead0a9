"""What approximate ways to sample cost in accuracy and gain in time: `python -m benchmarks.approximations`.

The shapes model draws captions that training never saw, and a verifier checks every image. Each way is
compared with the exact sampler of the same guidance: right images, tokens that are the same for the same
seeds, transformer passes, and seconds of the sampler's CPU. Temperatures of fewer steps and of Halton order
are chosen on the validation split first; no caption of the test split takes part in it. Writes
`docs/assets/sampling.png` and prints the table of docs/sampling.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.alignment import MODEL, wilson_interval
from benchmarks.record import load_average, write_result
from benchmarks.timing import significant
from examples.shapes.drawing import SIDE
from examples.shapes.generate import SAMPLER
from examples.shapes.prompts import choose_scenes
from examples.shapes.verify import check
from examples.shapes.world import Scene, caption, spoken
from meissonic import Meissonic, Sampler, SamplerConfig, SampleRequest, to_uint8

PICTURE = Path("docs/assets/sampling.png")
BATCH_SIZE = 48
GUIDED = dataclasses.replace(SAMPLER, guidance_scale=2.0)
"""The baseline of ways that change guidance: the model's own settings have none."""
TEMPERATURES: list[dict[str, Any]] = [
    {"softmax_temperature": softmax, "temperature": (noise, 0.0)}
    for softmax, noise in itertools.product((0.1, 0.2, 0.4), (0.0, 0.5))
]
FEWER_STEPS = (12, 8, 6, 5, 4, 3)
FAST = "Halton order, 4 steps"
"""What `SamplerConfig.fast` comes to for this model."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
    """One way to sample.

    Attributes:
        name: In the table.
        config: Its settings.
        exact: Name of the way it is compared with.
    """

    name: str
    config: SamplerConfig
    exact: str = "exact"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """What came of a set of captions: tokens [B, H, W], right or not [B], and the sampler's CPU seconds."""

    tokens: Tensor
    right: list[bool]
    seconds: float
    passes: float
    """Samples that went through the transformer, an image; both halves of a guided pair count."""


def draw(model: Meissonic, scenes: Sequence[Scene], config: SamplerConfig, seed: int) -> Drawn:
    """One image of each scene's caption."""
    requests = [
        SampleRequest(prompt=caption(scene), seed=seed + i, width=SIDE, height=SIDE, config=config)
        for i, scene in enumerate(scenes)
    ]
    sampler, passes = Sampler(model), 0
    features = sampler.network.features

    def counted(tokens_BHW: Tensor, *arguments: Any) -> Tensor:
        nonlocal passes
        passes += len(tokens_BHW)
        return features(tokens_BHW, *arguments)

    sampler.network.features = counted  # type: ignore[method-assign, assignment]
    began = time.process_time()
    made = list(sampler.sample(requests, batch_size=BATCH_SIZE))
    seconds = time.process_time() - began
    tokens = torch.cat([tokens for _, tokens in made])
    images = np.concatenate([to_uint8(sampler.decode(t, batch_size=BATCH_SIZE)).numpy() for _, t in made])
    order = [i for indices, _ in made for i in indices]
    right = [check(image, scenes[i]).right for i, image in zip(order, images, strict=True)]
    return Drawn(tokens=tokens, right=right, seconds=seconds, passes=passes / len(scenes))


def chosen_temperatures(model: Meissonic, config: SamplerConfig, count: int) -> SamplerConfig:
    """The config with the temperatures that do best on the validation split."""
    scenes = [spoken(s) for s in choose_scenes("validation", count, two_object_share=0.5, seed=0)]
    tried = [dataclasses.replace(config, **changes) for changes in TEMPERATURES]
    return max(tried, key=lambda one: sum(draw(model, scenes, one, seed=1_000).right))


def ways(model: Meissonic, count: int) -> list[Way]:
    """All that are measured; `count` validation images choose each temperature."""
    fewer = [
        Way(
            name=f"{steps} steps",
            config=chosen_temperatures(model, dataclasses.replace(SAMPLER, num_steps=steps), count),
        )
        for steps in FEWER_STEPS
    ]
    halton = [
        Way(
            name=f"Halton order, {steps} steps",
            config=chosen_temperatures(
                model, dataclasses.replace(SAMPLER, num_steps=steps, unmasking="halton"), count
            ),
        )
        for steps in (SAMPLER.num_steps, *FEWER_STEPS)
    ]
    threshold = [
        Way(
            name=f"threshold {least:g}",
            config=dataclasses.replace(SAMPLER, unmasking="threshold", confidence_threshold=least),
        )
        for least in (0.99, 0.95, 0.9, 0.7, 0.5, 0.3)
    ]
    reuse = [
        Way(
            name=f"middle blocks every {every} steps",
            config=dataclasses.replace(SAMPLER, reuse_interval=every),
        )
        for every in (2, 3, 4)
    ]
    guidance = [
        Way(
            name=f"guidance from {start:.0%} of the steps on",
            config=dataclasses.replace(GUIDED, guidance_interval=(start, 1.0)),
            exact="exact, guided",
        )
        for start in (0.25, 0.5, 0.75)
    ]
    exact = [
        Way(name="exact", config=SAMPLER),
        Way(name="exact, guided", config=GUIDED, exact="exact, guided"),
    ]
    return [*exact, *fewer, *halton, *threshold, *reuse, *guidance]


def measure(
    model: Meissonic, found: Sequence[Way], counts: tuple[int, int], seeds: Sequence[int], repetitions: int
) -> dict[str, Any]:
    """Held-out captions of one shape and of two, by every way."""
    scenes = [
        spoken(scene)
        for number, count in enumerate(counts)
        for scene in choose_scenes("test", count, two_object_share=float(number), seed=7)
    ]
    exact: dict[str, list[Drawn]] = {}
    result: dict[str, Any] = {}
    for way in found:
        drawn = [draw(model, scenes, way.config, seed * 1_000_003) for seed in seeds]
        exact.setdefault(way.exact, drawn)
        right = [r for one in drawn for r in one.right]
        same = torch.cat([d.tokens == e.tokens for d, e in zip(drawn, exact[way.exact], strict=True)])
        result[way.name] = {
            "compared_with": way.exact,
            "right": round(float(np.mean(right)), 4),
            "interval_95": [round(end, 4) for end in wilson_interval(float(np.mean(right)), len(right))],
            "images": len(right),
            "tokens_equal": significant(same.float().mean().item()),
            "passes_per_image": significant(float(np.mean([one.passes for one in drawn]))),
            "settings": way.config.to_json(),
        }
        print(way.name, result[way.name]["right"], flush=True)
    # seconds in turns, so that each way meets the machine in all its moods
    some = scenes[:: max(1, len(scenes) // (2 * BATCH_SIZE))]
    seconds = {way.name: list[float]() for way in found}
    for _ in range(repetitions):
        for way in found:
            seconds[way.name].append(draw(model, some, way.config, seed=0).seconds)
    for way in found:
        result[way.name]["speedup"] = significant(
            float(np.median(np.divide(seconds[way.exact], seconds[way.name]))), 3
        )
    return result


def table(measures: dict[str, Any]) -> str:
    """The rows of docs/sampling.md."""
    lines = ["| way | right, held-out | 95 % | tokens as exact | speed |", "|---|---|---|---|---|"]
    for name, one in measures.items():
        low, high = one["interval_95"]
        lines.append(
            f"| {name} | {one['right']:.1%} | {low:.1%} to {high:.1%} | {one['tokens_equal']:.0%} | "
            f"{one['speedup']:.2f} |"
        )
    return "\n".join(lines)


def picture(measures: dict[str, Any]) -> Figure:
    """Accuracy by speed, a line for each kind of way."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    kinds: dict[str, Callable[[str], bool]] = {
        "fewer steps": lambda name: name.endswith("steps") and name[0].isdigit(),
        "Halton order": lambda name: name.startswith("Halton"),
        "threshold": lambda name: name.startswith("threshold"),
        "middle blocks reused": lambda name: name.startswith("middle"),
        "late guidance (its own baseline)": lambda name: name.startswith("guidance"),
    }
    for (label, belongs), marker in zip(kinds.items(), "osD^v", strict=True):
        points = sorted(
            (m["speedup"], m["right"], m["interval_95"]) for n, m in measures.items() if belongs(n)
        )
        speed, right = [p[0] for p in points], [100 * p[1] for p in points]
        ends = [[100 * (p[1] - p[2][0]) for p in points], [100 * (p[2][1] - p[1]) for p in points]]
        axes.errorbar(speed, right, yerr=ends, marker=marker, label=label, capsize=2, linewidth=1)
    for name, style in (("exact", "-"), ("exact, guided", ":")):
        axes.axhline(100 * measures[name]["right"], color="gray", linestyle=style, linewidth=1, label=name)
    axes.set_xlabel("speed, times the exact sampler's")
    axes.set_ylabel("held-out captions drawn right, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, choose, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="of the result; benchmarks/results otherwise")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--images", type=int, nargs=2, default=(272, 298), help="of one shape and of two")
    parser.add_argument("--seeds", type=int, default=2, help="images of each caption")
    parser.add_argument("--validation", type=int, default=192, help="images that choose a temperature")
    parser.add_argument("--repetitions", type=int, default=5, help="of the timing")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    load_before = load_average()
    model = Meissonic.from_pretrained(MODEL)
    found = ways(model, options.validation)
    measures = measure(model, found, tuple(options.images), range(options.seeds), options.repetitions)
    settings = {
        "model": str(MODEL),
        "batch_size": BATCH_SIZE,
        "seeds": options.seeds,
        "validation_images": options.validation,
        "repetitions": options.repetitions,
        "load_average": {"before": load_before, "after": load_average()},
    }
    print(write_result("approximations", settings=settings, measures=measures, path=options.out))
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    picture(measures).savefig(options.picture, dpi=120)
    print(table(measures))


if __name__ == "__main__":
    main()

"""How often images of the shapes model show what their caption says: `python -m benchmarks.alignment`.

Three sets of captions, with one and with two shapes: scenes that training saw, scenes whose combination of
attributes it did not see, and scenes with a (shape, colour) pair that it never saw. Every image is checked by
the verifier, and scored with the CLIP beside the model, which tells whether that score finds the wrong ones.
`--choose` tries sampler settings on the validation split instead and prints them in order; the choice stands
in `examples/shapes/generate.py`.
"""

import argparse
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

from benchmarks.record import write_result
from examples.shapes.generate import SAMPLER, generate, share_right, verdicts
from examples.shapes.prompts import choose_scenes
from examples.shapes.verify import Verdict, check
from examples.shapes.world import caption, spoken
from meissonic.checkpoint import Meissonic
from meissonic.config import SamplerConfig

MODEL = Path("examples/shapes/model")
GRID = [
    SamplerConfig(
        num_steps=16,
        guidance_scale=guidance_scale,
        temperature=(temperature, 0.0),
        softmax_temperature=softmax_temperature,
    )
    for guidance_scale in (1.0, 1.5, 2.0)
    for temperature in (0.0, 1.0)
    for softmax_temperature in (0.2, 0.4, 0.7)
]
SETS = {
    "seen": ("train", 240, 240),
    "held_out": ("test", 272, 298),
    "unseen_pairs": ("unseen", 240, 240),
}
"""Name: split, images of one shape, images of two."""


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share (Wilson, 1927)."""
    z = 1.96
    center = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return (center - spread) / scale, (center + spread) / scale


def summary(found: Sequence[Verdict]) -> dict[str, Any]:
    """Return shares of images that are right, whole and attribute by attribute."""
    share = float(np.mean([verdict.right for verdict in found]))
    names = [field.name for field in fields(Verdict)]
    return {
        "images": len(found),
        "right": round(share, 4),
        "interval_95": [round(end, 4) for end in wilson_interval(share, len(found))],
        "attributes": {
            name: round(float(np.mean([getattr(verdict, name) for verdict in found])), 4) for name in names
        },
    }


def clip_scores(model_folder: Path, images: NDArray[np.uint8], captions: list[str], model: Meissonic) -> Any:
    """Return the cosine of each image with its caption, [B]."""
    name = f"local-dir:{model_folder.resolve() / 'clip'}"
    clip, _ = open_clip.create_model_from_pretrained(name, return_transform=True)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.5)
    with torch.inference_mode():
        image = clip.eval().encode_image(pixels, normalize=True)
        text = clip.encode_text(model.tokenizer(captions), normalize=True)
    return (image * text).sum(1).numpy()


def measure(model_folder: Path, seed: int) -> dict[str, Any]:
    """Generate and check the three sets of captions."""
    model = Meissonic.from_pretrained(model_folder)
    measures: dict[str, Any] = {}
    for name, (split, *counts) in SETS.items():
        for num_objects, count in zip((1, 2), counts, strict=True):
            share = float(num_objects - 1)
            scenes = [
                spoken(scene) for scene in choose_scenes(split, count, two_object_share=share, seed=seed)
            ]
            captions = [caption(scene) for scene in scenes]
            images = generate(model, captions, seeds=range(seed, seed + count))
            found = [check(image, scene) for image, scene in zip(images, scenes, strict=True)]
            scores = clip_scores(model_folder, images, captions, model)
            right = np.array([verdict.right for verdict in found])
            result = summary(found) | {"captions": len(set(captions))}
            result["clip_score_right"] = round(float(scores[right].mean()), 4)
            if not right.all():
                better = scores[right][:, None] > scores[~right][None]
                result["clip_score_wrong"] = round(float(scores[~right].mean()), 4)
                result["clip_score_auc"] = round(float(better.mean()), 4)
            measures[f"{name}_{num_objects}"] = result
            print(name, num_objects, result, flush=True)
    return measures


def choose(model_folder: Path, count: int) -> None:
    """Print the share of right validation images of every setting in GRID, and of the best in fewer steps."""
    model = Meissonic.from_pretrained(model_folder)
    scenes = choose_scenes("validation", count, two_object_share=0.5, seed=0)
    results: list[tuple[float, list[float], SamplerConfig]] = []

    def attempt(sampler: SamplerConfig) -> None:
        found = verdicts(model, scenes, seed=1, sampler=sampler)
        shares = [
            share_right(
                [v for v, scene in zip(found, scenes, strict=True) if len(scene.things) == num_objects]
            )
            for num_objects in (1, 2)
        ]
        results.append((sum(shares) / 2, shares, sampler))
        print(*results[-1], flush=True)

    for sampler in GRID:
        attempt(sampler)
    best = max(results, key=lambda item: item[0])[2]
    for num_steps in (6, 8, 12):
        attempt(dataclasses.replace(best, num_steps=num_steps))
    print("in order:")
    for result in sorted(results, key=lambda item: item[0]):
        print(*result)


def main() -> None:
    """Parse the command line and measure, or choose settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL, help="model folder")
    parser.add_argument("--seed", type=int, default=7, help="of the choice of captions and of the noise")
    parser.add_argument("--choose", action="store_true", help="try sampler settings on the validation split")
    parser.add_argument("--count", type=int, default=96, help="validation images a setting, with --choose")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.choose:
        choose(arguments.model, arguments.count)
        return
    measures = measure(arguments.model, arguments.seed)
    settings = {"sampler": dataclasses.asdict(SAMPLER), "seed": arguments.seed, "model": str(arguments.model)}
    print(write_result("alignment", settings=settings, measures=measures))


if __name__ == "__main__":
    main()

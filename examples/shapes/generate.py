"""Generate images of captions with the shapes model, and measure how many show what their caption says."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from examples.shapes.drawing import SIDE
from examples.shapes.verify import Verdict, check
from examples.shapes.world import Scene, caption, spoken
from meissonic.checkpoint import Meissonic
from meissonic.config import SamplerConfig
from meissonic.requests import SampleRequest
from meissonic.sampling import Sampler
from meissonic.vq import to_uint8

SAMPLER = SamplerConfig(num_steps=16, guidance_scale=1.0, temperature=(0.0, 0.0), softmax_temperature=0.2)
"""Chosen on the validation split by `python -m benchmarks.alignment --choose`."""


def generate(
    model: Meissonic,
    captions: list[str],
    *,
    seeds: Iterable[int],
    sampler: SamplerConfig = SAMPLER,
    batch_size: int = 48,
) -> NDArray[np.uint8]:
    """Return one image a caption, uint8 [B, 64, 64, 3]."""
    requests = [
        SampleRequest(prompt=prompt, seed=seed, width=SIDE, height=SIDE, config=sampler)
        for prompt, seed in zip(captions, seeds, strict=True)
    ]
    images = np.empty((len(requests), SIDE, SIDE, 3), np.uint8)
    made = Sampler(model)
    for indices, tokens in made.sample(requests, batch_size=batch_size):
        images[indices] = to_uint8(made.decode(tokens, batch_size=batch_size)).numpy()
    return images


def verdicts(
    model: Meissonic,
    scenes: list[Scene],
    *,
    seed: int,
    sampler: SamplerConfig = SAMPLER,
) -> list[Verdict]:
    """Generate one image for the full caption of each scene and check it against the whole caption."""
    said = [spoken(scene) for scene in scenes]
    seeds = [seed * 1_000_003 + index for index in range(len(said))]
    images = generate(model, [caption(scene) for scene in said], seeds=seeds, sampler=sampler)
    return [check(image, scene) for image, scene in zip(images, said, strict=True)]


def share_right(found: list[Verdict]) -> float:
    """Return the fraction of images with every attribute right."""
    return float(np.mean([verdict.right for verdict in found]))

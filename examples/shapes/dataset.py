"""Seeded batches of scenes and their images."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from examples.shapes.drawing import SIDE, draw
from examples.shapes.world import PLACES, Scene, scenes


def draw_many(many: list[Scene], rng: np.random.Generator | None) -> NDArray[np.uint8]:
    """Draw scenes as uint8 pixels [B, 64, 64, 3]."""
    return np.stack([draw(scene, rng) for scene in many]) if many else np.empty((0, SIDE, SIDE, 3), np.uint8)


def sample_scenes(
    split: str,
    count: int,
    rng: np.random.Generator,
    *,
    two_object_share: float = 0.5,
    places: Collection[str] = PLACES,
) -> list[Scene]:
    """Draw scenes of a split with replacement, this share with two objects, the others in these places."""
    pools = (one_object_scenes_in(split, places), scenes(split, num_objects=2))
    chosen = (pools[int(two)] for two in rng.random(count) < two_object_share)
    return [pool[int(rng.integers(len(pool)))] for pool in chosen]


def one_object_scenes_in(split: str, places: Collection[str]) -> list[Scene]:
    """Return the scenes of a split whose one shape is in one of these places."""
    return [scene for scene in scenes(split, num_objects=1) if scene.things[0].place in places]

"""Sizes that images are cut to: about one area, aspects from high to wide."""

from __future__ import annotations

import math
from dataclasses import dataclass

NUM_ASPECTS = 9


@dataclass(frozen=True, kw_only=True, order=True)
class Bucket:
    """Pixels of a crop."""

    height: int
    width: int

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width / self.height


def make_buckets(resolution: int, max_aspect: float, multiple: int) -> list[Bucket]:
    """The buckets with sides that are multiples, areas up to resolution^2 and aspects within the limit.

    No more than `NUM_ASPECTS`, evenly spaced by ratio: each has shards and batches of its own.

    Raises:
        ValueError: The resolution is no multiple.
    """
    if resolution % multiple:
        nearest = max(round(resolution / multiple), 1) * multiple
        raise ValueError(
            f"resolution {resolution} is no multiple of {multiple}, which is twice the VQ model's factor; "
            f"{nearest} is the nearest"
        )
    sides = range(multiple, resolution * math.ceil(max_aspect) + 1, multiple)
    found = {Bucket(height=side, width=resolution**2 // side // multiple * multiple) for side in sides}
    found |= {Bucket(height=bucket.width, width=bucket.height) for bucket in found}
    within = sorted(b for b in found if b.width and 1 / max_aspect <= b.aspect <= max_aspect)
    half = NUM_ASPECTS // 2
    aspects = [max_aspect ** (step / half) for step in range(-half, half + 1)]
    chosen = {min(within, key=lambda b: abs(math.log(b.aspect / aspect))) for aspect in aspects}
    return sorted(chosen)


def nearest_bucket(buckets: list[Bucket], width: int, height: int) -> Bucket:
    """The bucket whose aspect is nearest to that of an image, as a ratio; of two the one of more pixels."""
    wanted = math.log(width / height)
    return min(buckets, key=lambda b: (abs(math.log(b.aspect) - wanted), -b.width * b.height))

"""How many generated images show what their caption says, attribute by attribute."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from examples.shapes.chain import Generated
from examples.shapes.verify import Verdict, check
from examples.shapes.world import Scene

NAMES = ("right", *(field.name for field in fields(Verdict)))


def verdicts_of(generated: Generated) -> list[Verdict]:
    """Check each image against the scene in the column `scene` of its prompt."""
    scenes = [Scene.from_json(text) for text in generated.table["scene"].to_pylist()]
    return [check(image, scene) for image, scene in zip(generated.images, scenes, strict=True)]


def accuracies(generated: Generated) -> dict[str, dict[str, Any]]:
    """By number of shapes, the images and what share of them has each attribute right."""
    verdicts = verdicts_of(generated)
    counts = generated.table["num_objects"].to_pylist()
    found = {}
    for count, name in ((1, "one_shape"), (2, "two_shapes")):
        chosen = [verdict for verdict, number in zip(verdicts, counts, strict=True) if number == count]
        if chosen:
            shares = {what: float(np.mean([getattr(v, what) for v in chosen])) for what in NAMES}
            found[name] = {"images": len(chosen)} | {what: round(share, 4) for what, share in shares.items()}
    return found


def accuracy_text(found: dict[str, dict[str, Any]]) -> str:
    """A line for each number of shapes."""
    lines = ["captions of combinations that training never saw:"]
    for name, shares in found.items():
        told = ", ".join(f"{what} {shares[what]:.0%}" for what in NAMES)
        lines.append(f"  {name.replace('_', ' ')} ({shares['images']} images): {told}")
    return "\n".join(lines)

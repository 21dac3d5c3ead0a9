"""The learning rate of a step."""

from __future__ import annotations

import math

from pipelines.training.settings import StageSettings


def learning_rate(stage: StageSettings, step: int) -> float:
    """Of the step with that number, from 0: a linear rise, the peak, then the fall that was chosen."""
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    done = step / max(stage.num_steps - 1, 1)
    fallen = max(0.0, done - stage.decay_from) / (1 - stage.decay_from)
    left = {
        "constant": 1.0,
        "linear": 1 - fallen,
        "cosine": (1 + math.cos(math.pi * fallen)) / 2,
    }[stage.decay]
    return stage.learning_rate * (stage.final_rate + (1 - stage.final_rate) * left)

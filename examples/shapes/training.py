"""What the three training stages share: the learning-rate schedule, averaged weights and the log."""

import csv
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn


def learning_rate_factor(
    step: int, num_steps: int, *, warmup: int = 100, constant_until: float = 0.4
) -> float:
    """Return the factor of the peak rate: linear warm-up, constant, then a cosine to 2 % at the last step."""
    if step < warmup:
        return (step + 1) / warmup
    past = max(0.0, step / num_steps - constant_until) / (1 - constant_until)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(past, 1.0)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class AveragedWeights:
    """Exponential moving average of a module's weights, warmed up so that early steps do not linger."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.weights = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's weights."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)

    def load(self, state: Mapping[str, Tensor], num_updates: int) -> None:
        """Go on from a saved average."""
        self.weights = {name: value.clone() for name, value in state.items()}
        self.num_updates = num_updates


class Log:
    """A CSV of (stage, step, seconds, measure, value), also printed; a resumed stage's clock goes on."""

    def __init__(self, path: Path, stage: str) -> None:
        self.path = path
        self.stage = stage
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text("stage,step,seconds,measure,value\n")
        with path.open(newline="") as file:
            earlier = [float(row["seconds"]) for row in csv.DictReader(file) if row["stage"] == stage]
        self.started = time.perf_counter() - max(earlier, default=0.0)

    def write(self, step: int, measures: Mapping[str, float]) -> None:
        """Append one line a measure."""
        seconds = round(time.perf_counter() - self.started, 1)
        with self.path.open("a", newline="") as file:
            rows = ([self.stage, step, seconds, name, f"{value:.5g}"] for name, value in measures.items())
            csv.writer(file, lineterminator="\n").writerows(rows)
        print(json.dumps({"stage": self.stage, "step": step, "seconds": seconds, **measures}), flush=True)

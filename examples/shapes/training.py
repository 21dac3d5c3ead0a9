"""What the trainings of the VQ model and of the CLIP share: learning rate, averaged weights and log."""

import csv
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


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


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a module's weights, warmed up so that early steps do not linger."""

    def mean(average: Tensor, weight: Tensor, num_updates: Tensor | int) -> Tensor:
        count = int(num_updates)
        return average.lerp(weight, 1 - min(decay, (1 + count) / (10 + count)))

    return AveragedModel(module, avg_fn=mean)


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

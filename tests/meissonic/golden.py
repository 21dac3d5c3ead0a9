"""A folder of recorded inputs and outputs of the reference model, and its noise played back."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from meissonic import Meissonic

FOLDER = Path(os.environ.get("MEISSONIC_GOLDEN", Path(__file__).parents[1] / "assets" / "golden" / "tiny"))
TOLERANCE = 3e-5


def tolerance_at(timestep: float, least: float = TOLERANCE) -> float:
    """How far activations may be from recorded ones at this timestep.

    The embedding of the timestep has angles up to 1000 times it, in fp32: one last bit of a frequency turns
    them by this much. Only processors like the recording's round the exponential alike.
    """
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        return least
    return max(least, 1000 * timestep * 2.0**-23)


def close(actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(actual.float(), expected.float(), atol=tolerance, rtol=tolerance)


class Golden:
    """The folder's model, tensors and scalars."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tensors = load_file(folder / "golden.safetensors")
        self.values: dict[str, Any] = json.loads((folder / "golden.json").read_text("utf-8"))
        self.model = Meissonic.from_pretrained(folder)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]


@functools.cache
def load() -> Golden:
    return Golden(FOLDER)


def names(prefix: str) -> list[str]:
    """Group names for parametrisation, read from the header alone."""
    from safetensors import safe_open

    with safe_open(FOLDER / "golden.safetensors", "pt") as tensors:
        depth = prefix.count("/") + 2
        found = {"/".join(k.split("/")[:depth]) for k in list(tensors.keys()) if k.startswith(prefix + "/")}
        return sorted(found)


class RecordedNoise:
    """Noise of a recorded run: exponential [steps, B*N, V], uniform [steps - 1, B, N], from a step on."""

    def __init__(
        self, exponential: Tensor, uniform: Tensor, *, first_step: int = 0, start: Tensor | None = None
    ) -> None:
        self.exponential, self.uniform = exponential, uniform
        self.first_step, self.start = first_step, start

    def draw(self, step: int, positions_BM: Tensor, logits_BMV: Tensor) -> tuple[Tensor, Tensor]:
        noise = self.exponential[step - self.first_step].unflatten(0, (len(positions_BM), -1))
        noise = noise.gather(1, positions_BM[..., None].expand(-1, -1, noise.shape[-1]))
        probs_BMV = logits_BMV.softmax(-1)
        codes = (probs_BMV / noise).argmax(-1)
        return codes, probs_BMV.gather(-1, codes[..., None])[..., 0].log()

    def confidence_uniform(self, step: int, num_positions: int) -> Tensor:
        return self.uniform[step - self.first_step].reshape(-1, num_positions)

    def start_uniform(self, num_positions: int) -> Tensor:
        # inpainting records none: its mask alone decides
        return torch.ones(1, num_positions) if self.start is None else self.start.reshape(-1, num_positions)

"""How fast a worker trains: samples and tokens a second, model-FLOP utilisation, waiting for data."""

from __future__ import annotations

import time

import torch

from meissonic import cost
from meissonic.config import TextConfig, TransformerConfig
from pipelines.training.monitor import Rates

_GPU_SIDE, _CPU_SIDE = 8192, 1024
_PRODUCTS = 8


class RateMeter:
    """Counts between two readings."""

    def __init__(self, transformer: TransformerConfig, text: TextConfig, peak_flop_per_s: float) -> None:
        """Of this model; `peak_flop_per_s` is what all workers' devices can do."""
        self._transformer, self._text = transformer, text
        self._peak = peak_flop_per_s
        self._reset(0.0)

    def add(self, *, samples: int, grid: tuple[int, int], num_masked: int) -> None:
        """Count a step of this many samples of a grid, with so many masked positions in all."""
        transformer = cost.training_flops(
            self._transformer,
            *grid,
            num_masked=num_masked / samples,
            num_text=self._text.max_position_embeddings,
        )
        self._samples += samples
        self._tokens += samples * grid[0] * grid[1]
        self._flops += samples * (transformer + cost.text_flops(self._text))

    def read(self, waited_s: float) -> Rates:
        """The rates since the last reading; `waited_s` is all the time that was waited for data so far."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        found = Rates(
            samples_per_s=self._samples / seconds,
            tokens_per_s=self._tokens / seconds,
            utilisation=self._flops / seconds / self._peak,
            data_wait=min((waited_s - self._waited_s) / seconds, 1.0),
        )
        self._reset(waited_s)
        return found

    def pause(self, seconds: float) -> None:
        """Leave out time that went into something else, such as validation."""
        self._began += seconds

    def _reset(self, waited_s: float) -> None:
        self._began, self._waited_s = time.monotonic(), waited_s
        self._samples = self._tokens = 0
        self._flops = 0.0


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of large square matrix products on the device: the best of some."""
    side = _GPU_SIDE if device.type == "cuda" else _CPU_SIDE
    generator = torch.Generator(device).manual_seed(0)  # zeros and ones take less power, and go faster
    matrix = torch.randn(side, side, generator=generator, device=device, dtype=dtype)
    fastest = float("inf")
    for _ in range(_PRODUCTS):
        _synchronise(device)
        began = time.perf_counter()
        matrix @ matrix
        _synchronise(device)
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * side**3 / fastest


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

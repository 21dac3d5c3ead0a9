"""A function of tensors as a CUDA graph: no kernel waits for Python or the driver to start it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UPS = 3
"""Calls before a graph is captured: kernels are chosen and compiled in them."""
MAX_GRAPHS = 8
"""Shapes whose graphs are kept."""


class Captured:
    """Replays a function's kernels for each shape of its inputs.

    What it returns is overwritten by the next call: use it before. The function must read no tensor but its
    inputs and weights that stay where they are, and never wait for the GPU.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._graphs: dict[tuple[object, ...], tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Tensor]] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The function's result, in memory that the next call uses again."""
        key = tuple((x.shape, x.dtype) for x in inputs)
        if key not in self._graphs:
            if len(self._graphs) >= MAX_GRAPHS:
                self._graphs.pop(next(iter(self._graphs)))
            self._graphs[key] = self._capture(tuple(x.clone() for x in inputs))
        graph, own, result = self._graphs[key]
        for mine, given in zip(own, inputs, strict=True):
            mine.copy_(given)
        graph.replay()
        return result

    def _capture(self, inputs: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Tensor]:
        # as torch documents it: warm-ups on a stream that the capture is ordered after
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self._function(*inputs)
        return graph, inputs, result

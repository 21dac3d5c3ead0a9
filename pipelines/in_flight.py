"""Results on their way from a GPU to the CPU, which meanwhile has the next batch to start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor

ItemT = TypeVar("ItemT")


class InFlight:
    """Copies of tensors to the CPU, under way while the GPU goes on.

    Args:
        tensors: On any device; on the CPU they are taken as they are.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._copies, self._arrived = tensors, None
        if any(tensor.is_cuda for tensor in tensors):
            # into pinned memory alone a copy does not wait
            self._copies = tuple(torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in tensors)
            for copy, tensor in zip(self._copies, tensors, strict=True):
                copy.copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def wait(self) -> tuple[Tensor, ...]:
        """The copies, once they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._copies


def one_behind(items: Iterator[ItemT]) -> Iterator[ItemT]:
    """Each item once the next one has been begun; where that fails, the last item still comes first."""
    held: list[ItemT] = []
    while True:
        try:
            following = [next(items)]
        except StopIteration:
            yield from held
            return
        except Exception:  # whatever it is, it comes after the item that was made before it
            yield from held
            raise
        yield from held
        held = following

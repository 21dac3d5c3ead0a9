"""Run a model over any number of items, in batches of one size that halves when memory runs out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Item = TypeVar("Item")


class Batches:
    """Batches of one size: what comes out for an item depends on that item only, also in its last bits.

    Attributes:
        what: Of the items, for messages.
        size: Items a batch; smaller ones are filled up with their last item.
    """

    def __init__(self, what: str, size: int) -> None:
        self.what, self.size = what, size

    @torch.inference_mode()
    def run(
        self,
        items: Sequence[Item],
        prepare: Callable[[Sequence[Item]], Tensor],
        model: Callable[[Tensor], Tensor],
        events: Counter[str],
    ) -> NDArray[np.float32]:
        """The model's outputs [len(items), ...]; for no items an empty array.

        Args:
            items: What to run it over.
            prepare: Items -> the model's input, one row an item.
            model: Input -> outputs, one row an item.
            events: Where batches that were too large are counted.

        Raises:
            MemoryError: The device's memory does not suffice for a single item.
        """
        outputs: list[NDArray[np.float32]] = []
        done = 0
        while done < len(items):
            try:
                inputs = prepare(items[done : done + self.size])
                count = len(inputs)
                filling = inputs[-1:].expand(self.size - count, *inputs.shape[1:])
                output = model(torch.cat([inputs, filling]))[:count].float().cpu().numpy()
            except torch.OutOfMemoryError as error:
                events[f"out of memory at {self.what}, batch {self.size}"] += 1
                if self.size == 1:
                    # the original tells bytes that vary between runs, and ends in a dead letter
                    raise MemoryError(f"no memory for {self.what}, one at a time") from error
                self.size //= 2
            else:
                outputs.append(output)
                done += count
                continue
            torch.cuda.empty_cache()  # not before the error is gone, which holds what the batch had taken
        return np.concatenate(outputs) if outputs else np.zeros(0, np.float32)

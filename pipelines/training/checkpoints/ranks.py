"""The workers of a training among themselves, beside what they exchange in its steps."""

from __future__ import annotations

import datetime
from typing import TypeVar

import torch.distributed as dist

from pipelines.errors import RefusalError
from pipelines.training.checkpoints.store import CheckpointStoreError

T = TypeVar("T")


class Ranks:
    """All workers, with a gloo group of their own, so that a thread may wait for the others.

    Without an initialised process group this is the only worker.

    Args:
        rank: This worker.
        timeout_s: Seconds to wait for the slowest; a worker that died is noticed at once.

    Attributes:
        group: For `torch.distributed.checkpoint`; None for the only worker.
    """

    def __init__(self, rank: int, timeout_s: float) -> None:
        self.rank = rank
        self.group: dist.ProcessGroup | None = None
        if dist.is_initialized():
            timeout = datetime.timedelta(seconds=timeout_s)
            group = dist.new_group(backend="gloo", timeout=timeout)
            assert isinstance(group, dist.ProcessGroup)  # this rank is one of it
            self.group = group

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, on all ranks."""
        if self.group is None:
            return [value]
        values: list[T | None] = [None] * dist.get_world_size(self.group)
        dist.all_gather_object(values, value, group=self.group)
        return values  # type: ignore[return-value]  # all are filled in

    def first(self, value: T) -> T:
        """The value of rank 0, on all ranks."""
        return self.gather(value)[0]

    def agree(self, error: Exception | None) -> None:
        """Raise on all ranks what any rank has met, and nothing where all have None.

        Raises:
            CheckpointStoreError: Another rank met something that people can mend.
            RuntimeError: Another rank met something else.
            Exception: This rank's own error.
        """
        told = None if error is None else (isinstance(error, RefusalError), f"{error}")
        for rank, other in enumerate(self.gather(told)):
            if error is not None:
                raise error
            if other is not None:
                mendable, message = other
                text = f"worker {rank}: {message}"
                raise CheckpointStoreError(text) if mendable else RuntimeError(text)

    def close(self) -> None:
        """Give the group up."""
        if self.group is not None:
            dist.destroy_process_group(self.group)
            self.group = None

"""A stage on one worker: from the newest checkpoint to the last step, and back where a loss is not finite."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
import torch.distributed as dist

from pipelines.code_version import code_version
from pipelines.training.checkpoints import Checkpointer
from pipelines.training.job import StageJob
from pipelines.training.loop import Steps
from pipelines.training.order import SampleOrder
from pipelines.training.precision import DTYPES
from pipelines.training.rates import matmul_rate
from pipelines.training.skips import DivergedError, NotFiniteError, read_skips, write_skip
from pipelines.training.stage_model import StageModel
from pipelines.training.starts import write_start
from pipelines.training.token_store import open_token_stores


def train_stage(job: StageJob, checkpointer: Checkpointer, monitor: Any, device: torch.device) -> None:
    """Train to the last step.

    Raises:
        DivergedError: Too many batches were not finite.
    """
    config, stage = job.config, job.stage
    store = open_token_stores(stage.datasets)
    order = SampleOrder(
        {grid: [block.num_rows for block in blocks] for grid, blocks in store.blocks.items()},
        seed=config.seed,
        batch_size=stage.batch_size,
        window_blocks=config.window_blocks,
    )
    peak = config.logging.peak_flop_per_s or matmul_rate(device, DTYPES[config.precision])
    skipped: set[int] = _agreed(read_skips(job.storage))
    if dist.get_rank() == 0:
        write_start(
            job.storage,
            step=checkpointer.store.newest() or 0,
            num_workers=dist.get_world_size(),
            parallel=config.workers.parallel,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            code_version=code_version(),
        )
    while True:
        # what was trained before is gone by now: there need not be room for two
        trained = StageModel(job, device)
        first = checkpointer.newest()
        if first is not None:
            state = trained.state()
            checkpointer.load(step=first, state=state)
            trained.restore(state)
        try:
            Steps(job, trained, store, order, checkpointer, monitor, peak).run(first or 0, skipped)
            return
        except NotFiniteError as fault:
            left_out = fault.with_traceback(None)  # whose frames hold the model
        del trained
        checkpointer.wait()  # a checkpoint that is being written may be the last good one
        _leave_out(job, left_out, skipped)
        skipped.add(left_out.index)


def _leave_out(job: StageJob, fault: NotFiniteError, skipped: Collection[int]) -> None:
    """Record that the batch is left out, for this run and any that goes on with it."""
    if len(skipped) >= job.config.max_skipped_batches:
        raise DivergedError(
            f"{job.storage.uri}: {fault}; {len(skipped)} batches were left out before for the same, which is "
            "max_skipped_batches; lower the learning rate or lengthen the warm-up"
        )
    if dist.get_rank() == 0:
        write_skip(job.storage, fault)
    dist.barrier()


def _agreed(skipped: Collection[int]) -> set[int]:
    """What the first worker has listed, on all: a listing may lag behind."""
    values: list[Any] = [set(skipped)]
    dist.broadcast_object_list(values)
    found: set[int] = values[0]
    return found

"""What each worker of Ray Train runs: the steps of a stage, from the newest checkpoint to the last."""

from __future__ import annotations

from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from pipelines.errors import RefusalError
from pipelines.training.checkpoints import Checkpointer, CheckpointStore
from pipelines.training.job import StageJob
from pipelines.training.stage import train_stage


def run_worker(arguments: dict[str, Any]) -> None:
    """Ray Train's function: `arguments` has the `StageJob` and the driver's `Monitor`.

    What another start cannot mend is told to the monitor, and then starts end at once; any other error ends
    this worker, and Ray starts all again from the newest checkpoint.
    """
    job: StageJob = arguments["job"]
    monitor = arguments["monitor"]
    rank, world_size = dist.get_rank(), dist.get_world_size()
    store = CheckpointStore(job.storage)
    refusal = [ray.get(monitor.start.remote(store.newest() or 0)) if rank == 0 else None]
    dist.broadcast_object_list(refusal)
    if refusal[0] is not None:
        return
    if job.config.workers.threads is not None:
        torch.set_num_threads(job.config.workers.threads)
    device = ray.train.torch.get_device()
    try:
        keep = job.config.checkpoints
        with Checkpointer(store=store, rank=rank, world_size=world_size, keep=keep) as checkpointer:
            train_stage(job, checkpointer, monitor, device)
    except RefusalError as error:
        ray.get(monitor.refuse.remote(str(error)))
        raise
    except torch.OutOfMemoryError as error:
        text = f"{error}; set workers.micro_batch_size to less, or workers.checkpoint_every to 1"
        ray.get(monitor.refuse.remote(text))
        raise
    except Exception as error:
        ray.get(monitor.failed.remote(f"{type(error).__name__}: {error}"))
        raise

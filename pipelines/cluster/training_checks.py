"""One step of a training on the cluster, with its real batch, and nothing kept."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

from pipelines.cluster.check import Check
from pipelines.growing import Bundle, wait_for_room
from pipelines.progress import duration
from pipelines.storage import TEMPORARY, child, open_storage
from pipelines.training.settings import TrainConfig
from pipelines.training.trainer import plan_training


def check_training(config: TrainConfig) -> Iterator[Check]:
    """The plan of all stages, and a step of the first: model, data, batch in memory, gradients, checkpoint.

    Raises:
        RefusalError: What the job itself would be refused with.
    """
    training = plan_training(config)
    yield Check(name="weights", is_ok=True, found=f"{config.init} {training.model.digest}")
    for plan in training.stages:
        found = f"{plan.stage.name}: {plan.stage.num_steps:,} steps of {plan.stage.batch_size} samples"
        yield Check(name="stages", is_ok=True, found=found)
    workers = config.workers
    each = Bundle(cpus=workers.num_cpus, gpus=float(workers.num_gpus == 1))
    if not wait_for_room([each] * workers.num_workers, workers.timeout_s):
        found = (
            f"{workers.num_workers} workers of {each.cpus:g} CPUs and {each.gpus:g} GPUs found no room in "
            f"{workers.timeout_s:g} s; lower workers.num_workers, or add nodes"
        )
        yield Check(name="resources", is_ok=False, found=found)
        return
    output = child(config.output, f"{TEMPORARY}doctor-{uuid.uuid4().hex}")
    stage = config.stages[0].model_copy(update={"num_steps": 1, "warmup_steps": 0})
    changed = {
        "output": output,
        "stages": (stage,),
        "validation": config.validation.model_copy(update={"every_steps": None}),
    }
    began = time.monotonic()
    try:
        plan_training(config.model_copy(update=changed)).run()
    finally:
        storage = open_storage(output)
        for entry in list(storage.list()):
            storage.delete(entry.path)
    took = duration(time.monotonic() - began)
    found = f"{workers.num_workers} workers started, trained a step and wrote a checkpoint in {took}"
    yield Check(name="step", is_ok=True, found=found)

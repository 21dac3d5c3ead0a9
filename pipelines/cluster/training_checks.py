"""One step of a training on the cluster, with its real batch, and nothing kept."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

from pipelines.cluster.check import Check
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
    workers = f"{config.workers.num_workers} workers"
    found = (
        f"{workers} started, trained a step and wrote a checkpoint in {duration(time.monotonic() - began)}"
    )
    yield Check(name="step", is_ok=True, found=found)

"""What a `generate` job will take; see `pipelines.estimate`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import ray

from pipelines.budget import cluster_nodes, on_cluster
from pipelines.estimate import Estimate, estimate, rate_of, spread_sample
from pipelines.generate import GenerationJob, GenerationPlan, OnProgress
from pipelines.ledger import RUN_PATH
from pipelines.records import Records
from pipelines.storage import open_storage

_THREADS = 16


def run_sample(job: GenerationJob, count: int, on_progress: OnProgress | None = None) -> None:
    """Run `count` units that are not done, evenly spread over the plan; they stay done.

    Raises:
        ClusterTooSmallError: The job does not fit the cluster.
        JobFailedError: The job stopped.
    """
    pending = Records(job.ledger.storage, job.ledger.planned()).pending()
    if len(pending):
        job.run(on_progress, sample=spread_sample(pending, count).tolist())


def estimate_job(planned: GenerationPlan, price: float | None) -> Estimate:
    """What the job will take, from its plan and the units in its output folder that are done.

    Raises:
        LedgerError: The output folder holds something else.
    """
    config, plan = planned.config, planned.run.units
    done, rate = np.zeros(len(plan), bool), None
    if open_storage(config.output).exists(RUN_PATH):
        ledger = planned.open().ledger
        plan = ledger.planned()
        records = Records(ledger.storage, plan)
        done, rate = records.done, rate_of(records.in_order())
    storage = planned.prompts.storage
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = list(pool.map(storage.size, [item.path for item in planned.prompts.objects]))
    resources = config.resources
    if resources.num_gpus == "auto":
        nodes = cluster_nodes() if ray.is_initialized() else []
        resources = on_cluster(resources, nodes)
    return estimate(config.output, plan, done, rate, object_sizes=sizes, resources=resources, price=price)

"""Train a transformer on token stores, stage after stage, on Ray Train.

    training = plan_training(load_config(TrainConfig, "jobs/configs/train.yaml", ["init=…", "output=…"]))
    result = training.run(on_progress)

Planning checks everything that needs no cluster; running needs a connected Ray. Started again, it goes on
from the newest complete checkpoint, with any number of workers.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipelines.budget import ClusterTooSmallError, cluster_nodes
from pipelines.errors import RefusalError
from pipelines.models import LocalModel, fetch_model
from pipelines.storage import child
from pipelines.ticking import ticking
from pipelines.training.checkpoints import CheckpointStore
from pipelines.training.checkpoints.store import record_path
from pipelines.training.job import StageJob
from pipelines.training.monitor import Monitor, TrainingProgress
from pipelines.training.planning import StagePlan, plan_stages
from pipelines.training.settings import TrainConfig
from pipelines.training.worker import run_worker
from schemas.manifest import json_bytes

OnProgress = Callable[[TrainingProgress, int], None]
"""Called with the newest progress, and how often the workers were started again."""


class TrainingStoppedError(RefusalError):
    """The training stopped; its checkpoints stay. The message has the reason."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a finished training left.

    Attributes:
        checkpoint: URI of the last stage's last checkpoint.
        num_steps: Of all stages.
        steps_run: By this start of it.
    """

    checkpoint: str
    num_steps: int
    steps_run: int


@dataclass(frozen=True, kw_only=True)
class Training:
    """A checked training that has written nothing yet.

    Attributes:
        config: Its configuration.
        model: The model that it starts from, on this node.
        stages: In order.
    """

    config: TrainConfig
    model: LocalModel
    stages: list[StagePlan]

    def run(self, on_progress: OnProgress | None = None) -> TrainingResult:
        """Run all stages that are not done.

        Raises:
            ClusterTooSmallError: The workers do not fit the cluster.
            LedgerError: A stage's folder holds another training.
            TrainingStoppedError: It stopped; started again it goes on.
        """
        config = _on_cluster(self.config)
        start: str | None = None
        described: dict[str, Any] | None = None
        steps_run = 0
        for plan in self.stages:
            plan.open(described)
            store = CheckpointStore(plan.storage)
            before = store.newest() or 0
            if before < plan.stage.num_steps:
                job = StageJob(
                    config=config,
                    stage=plan.stage,
                    storage=plan.storage,
                    init_digest=self.model.digest,
                    start=start,
                    grid=plan.grid,
                )
                _run_stage(job, on_progress)
                steps_run += plan.stage.num_steps - before
            start = child(plan.storage.uri, record_path(plan.stage.num_steps))
            described = {"stage": plan.stage.name, "request": _digest(plan.request | {"start": described})}
        assert start is not None  # a configuration has a stage
        num_steps = sum(plan.stage.num_steps for plan in self.stages)
        return TrainingResult(checkpoint=start, num_steps=num_steps, steps_run=steps_run)


def _digest(request: dict[str, Any]) -> str:
    return hashlib.sha256(json_bytes(request)).hexdigest()


def plan_training(config: TrainConfig) -> Training:
    """Fetch the model to this node, and check all that needs no cluster.

    Raises:
        TrainingError: Batches do not divide, or model and token stores do not fit each other.
        TokenStoreError: A token store cannot be trained on.
        ModelError: The model cannot be fetched.
    """
    model = fetch_model(config.init)
    return Training(config=config, model=model, stages=plan_stages(config, model))


def _run_stage(job: StageJob, on_progress: OnProgress | None) -> None:
    workers = job.config.workers
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(Monitor)
    monitor = actor.options(num_cpus=0, scheduling_strategy=here).remote(workers.max_restarts)
    # Ray Train keeps its own state here; what is to last is in the stage's folder
    scratch = tempfile.mkdtemp(prefix="ray-train-")
    environment = {} if workers.threads is None else {"env_vars": {"OMP_NUM_THREADS": str(workers.threads)}}
    trainer = TorchTrainer(
        run_worker,
        train_loop_config={"job": job, "monitor": monitor},
        torch_config=TorchConfig(
            backend="cpu:gloo,cuda:nccl" if workers.num_gpus else "gloo", timeout_s=int(workers.timeout_s)
        ),
        scaling_config=ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=bool(workers.num_gpus),
            resources_per_worker={"CPU": workers.num_cpus} | ({"GPU": 1} if workers.num_gpus else {}),
        ),
        run_config=RunConfig(
            name=uuid.uuid4().hex,
            storage_path=scratch,
            failure_config=FailureConfig(max_failures=-1),  # the monitor counts them
            worker_runtime_env=environment,  # type: ignore[call-arg]  # the class of Ray Train's second version
        ),
    )

    def report() -> None:
        progress, restarts = ray.get(monitor.newest.remote())
        if progress is not None and on_progress is not None:
            on_progress(progress, restarts)

    try:
        with ticking(report):
            trainer.fit()
        if (refusal := ray.get(monitor.refusal.remote())) is not None:
            raise TrainingStoppedError(f"{job.storage.uri}: {refusal}")
    finally:
        ray.kill(monitor)
        shutil.rmtree(scratch, ignore_errors=True)


def _on_cluster(config: TrainConfig) -> TrainConfig:
    """With a number for `num_gpus: auto`.

    Raises:
        ClusterTooSmallError: The workers do not fit what is there. GPUs that are asked for by number are
            waited for: a cluster may grow.
    """
    nodes, workers = cluster_nodes(), config.workers
    gpus = int(sum(node.num_gpus for node in nodes))
    num_gpus = workers.num_gpus if workers.num_gpus != "auto" else int(gpus > 0)
    cpus = sum(int(node.num_cpus // workers.num_cpus) for node in nodes)
    if num_gpus == 0 and cpus < workers.num_workers:
        raise ClusterTooSmallError(
            f"workers: {workers.num_workers} of {workers.num_cpus:g} CPUs each are asked for, the cluster "
            f"has room for {cpus}; lower workers.num_workers or workers.num_cpus"
        )
    if workers.num_gpus == "auto" and 0 < gpus < workers.num_workers:
        raise ClusterTooSmallError(
            f"workers: {workers.num_workers} with a GPU each are asked for, the cluster has {gpus}; lower "
            "workers.num_workers, or set workers.num_gpus=1 to wait until the cluster has grown"
        )
    return config.model_copy(update={"workers": workers.model_copy(update={"num_gpus": num_gpus})})

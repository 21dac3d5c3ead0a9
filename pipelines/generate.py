"""Generate images for a prompt table.

    job = open_job(load_config(GenerateConfig, "jobs/configs/generate.yaml", ["prompts=…", "output=…"]))
    summary = job.run(on_progress)

Opening checks everything that needs no cluster; running needs a connected Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from meissonic import CheckpointError
from pipelines.budget import cluster_nodes, on_cluster
from pipelines.cards.generation import write_card
from pipelines.generation_config import GenerateConfig, with_model_settings
from pipelines.generation_models import GenerationModels
from pipelines.ledger import Ledger
from pipelines.models import ModelError, fetch_model, model_id
from pipelines.packing import PackImages
from pipelines.planned_run import PlannedRun, planned_run
from pipelines.prompts import PromptTable, PromptTableError, open_prompts
from pipelines.reopening import recorded_config, refuse_other_input
from pipelines.scorers.fetching import fetch_scorers
from pipelines.scorers.settings import scorer_fields
from pipelines.tally import Progress, RunSummary
from pipelines.unit_job import Stage, UnitJob
from pipelines.units import run_units
from schemas.generations import generations_schema

JOB = "generate"
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class GenerationJob:
    """A job that is ready to run.

    Attributes:
        config: Without nulls.
        models: What the workers load.
        prompts: The checked prompt table.
        ledger: The output folder.
    """

    config: GenerateConfig
    models: GenerationModels
    prompts: PromptTable
    ledger: Ledger

    def run(self, on_progress: OnProgress | None = None, sample: Sequence[int] | None = None) -> RunSummary:
        """Run all that is not done yet; write the manifest and the dataset card.

        Args:
            on_progress: See `run_units`.
            sample: Indices in the plan of the only units to run.

        Raises:
            ClusterTooSmallError: The job does not fit the cluster.
            JobFailedError: The job stopped; started again it goes on.
        """
        job = generation_units(self.config, self.models, self.prompts)
        summary = run_units(job, self.ledger, on_progress, sample=sample)
        if summary.manifest:
            write_card(self.ledger, self.config, self.models, summary)
        return summary


def generation_units(config: GenerateConfig, models: GenerationModels, prompts: PromptTable) -> UnitJob:
    """What to run over the units, on the cluster that this driver is connected to.

    Args:
        config: Without nulls.
        models: What the workers load.
        prompts: The checked prompt table.
    """
    # workers are told what "auto" came to: whether they have a GPU of their own
    resources = on_cluster(config.resources, cluster_nodes())
    config = config.model_copy(update={"resources": resources})
    generating = Stage(
        worker="pipelines.generation_worker:GenerationWorker",  # imports torch
        worker_args={"config": config, "models": models, "prompts_uri": prompts.storage.uri},
        resources=resources,
    )
    return UnitJob(
        stages=(generating,),
        read=prompts.read,
        pack=PackImages(images=config.images),
        unit_timeout_s=config.unit_timeout_s,
        max_failure_rate=config.max_failure_rate,
        failure_rate_rows=config.failure_rate_rows,
    )


@dataclass(frozen=True, kw_only=True)
class GenerationPlan:
    """A checked job that has written nothing yet.

    Attributes:
        config: Without nulls.
        models: What the workers load.
        prompts: The checked prompt table.
        run: What it will do.
    """

    config: GenerateConfig
    models: GenerationModels
    prompts: PromptTable
    run: PlannedRun

    @property
    def weights(self) -> dict[str, str]:
        """Digests of what the workers load, by name."""
        return {self.config.model: self.models.model_digest} | self.models.scorer_digests

    def unit_job(self) -> UnitJob:
        """What to run over the units, on the cluster that this driver is connected to."""
        return generation_units(self.config, self.models, self.prompts)

    def open(self) -> GenerationJob:
        """Begin the run in the output folder, or go on with it.

        Raises:
            LedgerError: The output folder holds something else.
            StorageError: It cannot hold a run.
        """
        ledger = self.run.open(self.config.output)
        return GenerationJob(config=self.config, models=self.models, prompts=self.prompts, ledger=ledger)


def plan_job(config: GenerateConfig) -> GenerationPlan:
    """Check the prompt table, fetch the models to this node, and cut the plan.

    Raises:
        PromptTableError: The prompt table cannot be run.
        ModelError: The model cannot be fetched.
    """
    prompts = open_prompts(config.prompts)
    _check_columns(config, prompts)
    config, models = prepare(config)
    run = planned_run(
        JOB,
        config,
        {"models": asdict(models)},
        prompts.objects,
        config.unit_rows,
        row_id="prompt_id",
        unique_id="sample_id",
    )
    return GenerationPlan(config=config, models=models, prompts=prompts, run=run)


def open_job(config: GenerateConfig) -> GenerationJob:
    """`plan_job`, and begin the run in the output folder or go on with it.

    Raises:
        PromptTableError: The prompt table cannot be run.
        ModelError: The model cannot be fetched.
        LedgerError: The output folder holds something else.
        StorageError: It cannot hold a run.
    """
    return plan_job(config).open()


def open_retry(output: str, overrides: Sequence[str] = ()) -> GenerationJob:
    """The job that runs the dead letters of a finished one again, with its model and settings.

    Args:
        output: The job's folder.
        overrides: Texts `a.b=value` for settings that do not change the output, such as how many workers.

    Raises:
        LedgerError: There is no finished `generate` job there, its prompts have changed, or an override would
            change the output.
        ModelError: The model is not the one of that job.
    """
    ledger = Ledger.load(output)
    config, digests = recorded_config(GenerateConfig, ledger, JOB, "models", overrides)
    models = GenerationModels(**digests)
    prompts = open_prompts(config.prompts)
    refuse_other_input(ledger, prompts.objects, "prompt table")
    fetch_model(config.model, models.model_digest)
    ledger.plan_retries()
    return GenerationJob(config=config, models=models, prompts=prompts, ledger=ledger)


def prepare(config: GenerateConfig) -> tuple[GenerateConfig, GenerationModels]:
    """Fetch the models to the driver's node, and fill the config's nulls from the model.

    Raises:
        ModelError: A model cannot be fetched, or its folder is not complete.
    """
    model = fetch_model(config.model)
    scorers = fetch_scorers(config.scorers)
    try:
        resolved = with_model_settings(config, model.folder, model_id(config.model))
    except CheckpointError as error:
        raise ModelError(f"{config.model}: {error}") from error
    return resolved, GenerationModels(model_digest=model.digest, scorer_digests=scorers)


def _check_columns(config: GenerateConfig, prompts: PromptTable) -> None:
    try:
        generations_schema(
            tokens=config.tokens,
            scores=scorer_fields(config.scorers),
            ranks=config.best_of is not None,
            passed_through=prompts.passed_through,
        )
    except ValueError as error:
        raise PromptTableError(f"{config.prompts}: {error}") from error

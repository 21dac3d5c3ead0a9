"""Package a generated set: the job `package`.

    plan = plan_packaging(load_config(PackageConfig, "jobs/configs/package.yaml", ["input=…", "output=…"]))
    summary = plan.open().run(on_progress)

Planning needs no cluster. A unit of the job is a shard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.cards.packaged_set import write_card
from pipelines.errors import LedgerError
from pipelines.ledger import Ledger, refuse_foreign_files
from pipelines.packaging.packing import PackForHub
from pipelines.packaging.read_images import ReadPackagedRows
from pipelines.packaging.settings import PackageConfig
from pipelines.packaging.shard_plan import (
    SAMPLE_ID,
    GeneratedSet,
    PackagingError,
    PlannedShards,
    open_generated,
    write_shard_plan,
)
from pipelines.packaging.worker import PackagingWorker
from pipelines.planned_run import PlannedRun, planned_run
from pipelines.reopening import recorded_config, refuse_other_input
from pipelines.shard_cuts import SHARD_PLAN
from pipelines.storage import child, open_storage
from pipelines.tally import Progress, RunSummary
from pipelines.unit_job import Stage, UnitJob
from pipelines.units import run_units
from pipelines.webdataset_shards import PackShard

JOB, GENERATED, LEFT_OUT = "package", "generated", "left_out"
FIRST = {"huggingface": ("image", "prompt"), "webdataset": ("key", "caption", "width", "height")}
"""Columns that a shard begins with."""
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class PackagingJob:
    """A job that is ready to run.

    Attributes:
        plan: What it does.
        ledger: The output folder.
    """

    plan: PackagingPlan
    ledger: Ledger

    def run(self, on_progress: OnProgress | None = None) -> RunSummary:
        """Write all shards that are not there yet, the manifest and the dataset card.

        Raises:
            ClusterTooSmallError: The job does not fit the cluster.
            JobFailedError: The job stopped; started again it goes on.
        """
        summary = run_units(self.plan.unit_job(), self.ledger, on_progress)
        write_card(self.ledger, self.plan, summary)
        return summary


@dataclass(frozen=True, kw_only=True)
class PackagingPlan:
    """A checked job that has written nothing yet but which images go into which shard.

    Attributes:
        config: Of the job.
        generated: The set to package.
        shards: Its shards.
        run: What the job will do.
    """

    config: PackageConfig
    generated: GeneratedSet
    shards: PlannedShards
    run: PlannedRun

    @property
    def weights(self) -> dict[str, str]:
        """Digests of what the workers load: nothing."""
        return {}

    def unit_job(self) -> UnitJob:
        """What to run over the shards."""
        form = self.config.format
        read = ReadPackagedRows(
            shard_plan=open_storage(child(self.config.output, SHARD_PLAN)),
            generated=self.generated.found.storage,
            schema=self.generated.schema(tokens=self.config.keep_tokens),
            format=form,
        )
        packing = Stage(
            worker=PackagingWorker, worker_args={"first": FIRST[form]}, resources=self.config.workers
        )
        pack = (
            PackShard(format=form)
            if form == "webdataset"
            else PackForHub(num_shards=len(self.shards.objects))
        )
        return UnitJob(stages=(packing,), read=read, pack=pack, unit_timeout_s=self.config.unit_timeout_s)

    def open(self) -> PackagingJob:
        """Begin the run in the output folder, or go on with it.

        Raises:
            LedgerError: The output folder holds something else, such as another set.
            StorageError: It cannot hold a run.
        """
        return PackagingJob(plan=self, ledger=self.run.open(self.config.output))


def plan_packaging(config: PackageConfig) -> PackagingPlan:
    """Look at the set, and write which images go into which shard.

    Raises:
        LedgerError: There is no run at the input, or the output folder holds other files.
        PackagingError: Input and output are one folder; the input is not a `generate` job's; `where` cannot
            be used, or leaves no image.
        PlanError: It has not finished.
    """
    generated = open_generated(config.input)
    output = open_storage(config.output)
    if output == generated.found.storage:
        raise PackagingError(f"{config.output}: input and output are the same folder; name another output")
    refuse_foreign_files(output)
    folder = open_storage(child(config.output, SHARD_PLAN))
    shards = write_shard_plan(generated, config, folder)
    left_out = {"without_image": shards.without_image, "not_chosen": shards.not_chosen}
    noted = {GENERATED: generated.manifest_sha256, LEFT_OUT: left_out}
    unique_id = "key" if config.format == "webdataset" else SAMPLE_ID
    run = planned_run(
        JOB, config, noted, shards.objects, config.shard_rows, row_id=SAMPLE_ID, unique_id=unique_id
    )
    return PackagingPlan(config=config, generated=generated, shards=shards, run=run)


def open_packaging_retry(output: str, overrides: Sequence[str] = ()) -> PackagingJob:
    """The job that packages images that were missing, once they are there again.

    Args:
        output: The job's folder.
        overrides: Texts `a.b=value` for settings that do not change the output.

    Raises:
        LedgerError: There is no finished `package` job there, its input has changed, or an override would
            change the output.
    """
    ledger = Ledger.load(output)
    config, manifest_sha256 = recorded_config(PackageConfig, ledger, JOB, GENERATED, overrides, [LEFT_OUT])
    plan = plan_packaging(config)
    if plan.generated.manifest_sha256 != manifest_sha256:
        raise LedgerError(
            f"{config.input}: another set than the one that {output} packages; use a new output"
        )
    refuse_other_input(ledger, plan.shards.objects, "generated set")
    ledger.plan_retries()
    return PackagingJob(plan=plan, ledger=ledger)

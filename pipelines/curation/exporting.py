"""Write the training set that a selection keeps: the last pass of curation."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.curation.export_plan import write_shard_plan
from pipelines.curation.export_worker import ExportWorker
from pipelines.curation.scoring import OnProgress, ScoringPlan
from pipelines.curation.settings import ExportSettings
from pipelines.curation.shard_images import ReadImages
from pipelines.errors import RefusalError
from pipelines.ledger import Ledger
from pipelines.manifest import MANIFEST_PATH
from pipelines.planned_run import planned_run
from pipelines.shard_cuts import SHARD_PLAN, ShardCuts
from pipelines.storage import child, open_storage
from pipelines.tally import RunSummary
from pipelines.unit_job import Stage, UnitJob
from pipelines.units import run_units
from pipelines.webdataset_shards import PackShard

JOB = "export"


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """An export that is ready to run.

    Attributes:
        export: Its settings.
        scoring: The scores that were selected from.
        ledger: The output folder.
    """

    export: ExportSettings
    scoring: ScoringPlan
    ledger: Ledger

    def run(self, on_progress: OnProgress | None = None) -> RunSummary:
        """Write all shards that are not there yet, and the manifest.

        Raises:
            ClusterTooSmallError: The job does not fit the cluster.
            JobFailedError: The job stopped; started again it goes on.
        """
        config = self.scoring.config
        arguments = {"settings": self.export, "limits": config.decode, "kept": config.keep}
        job = UnitJob(
            stages=(Stage(worker=ExportWorker, worker_args=arguments, resources=self.export.workers),),
            read=ReadImages(
                shard_plan=open_storage(child(self.ledger.storage.uri, SHARD_PLAN)),
                scores=open_storage(config.output),
                kept=config.keep,
                read_source=self.scoring.source.reader,
            ),
            pack=PackShard(format=self.export.format),
            unit_timeout_s=self.export.unit_timeout_s,
        )
        return run_units(job, self.ledger, on_progress)


def open_export(scoring: ScoringPlan, selection_uri: str, export: ExportSettings, output: str) -> ExportJob:
    """Begin the export of a selection, or go on with it.

    Args:
        scoring: The scores that were selected from.
        selection_uri: The selection.
        export: What to write.
        output: The training set's folder.

    Raises:
        ExportError: The selection keeps nothing, or is of other scores.
        LedgerError: The output folder holds something else, such as the export of another selection.
    """
    kept = scoring.config.keep
    if kept == "resized" and export.images.format is not None:
        raise RefusalError(
            "score.keep=resized has encoded the images as score.images says; leave export.images.format null"
        )
    cuts = ShardCuts(rows=export.shard_rows, size_bytes=export.shard_bytes)
    folder = open_storage(child(output, SHARD_PLAN))
    objects = write_shard_plan(scoring.config.output, selection_uri, folder, cuts)
    selection = open_storage(selection_uri).sha256(MANIFEST_PATH)
    noted = {"kept": kept, "selection": selection}
    run = planned_run(JOB, export, noted, objects, export.shard_rows, unique_id="key")
    return ExportJob(export=export, scoring=scoring, ledger=run.open(output))

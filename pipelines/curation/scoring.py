"""Score the images of a dataset: the first pass of curation, and the job `score`.

    summary = plan_scoring(load_config(ScoreConfig, …)).open().run(on_progress)

Planning looks at the whole input, on Ray where the input is many tars; running needs Ray in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipelines.budget import cluster_nodes, on_cluster
from pipelines.cards.scores import write_card
from pipelines.config import differences
from pipelines.curation.decode_worker import DecodeWorker
from pipelines.curation.scores import scores_schema, taken_names
from pipelines.curation.settings import ScoreConfig
from pipelines.errors import LedgerError
from pipelines.ledger import Ledger
from pipelines.plan import Unit
from pipelines.planned_run import PlannedRun, planned_run
from pipelines.reopening import recorded_config, refuse_other_input
from pipelines.scorers.fetching import fetch_scorers
from pipelines.shards import Shard, parquet_shard
from pipelines.sources import ImageSource, open_source
from pipelines.sources.opening import INDEX
from pipelines.storage import child
from pipelines.tally import Progress, RunSummary
from pipelines.unit_job import Stage, UnitJob
from pipelines.units import run_units

JOB = "score"
WEIGHTS = "weights"
"""Key in run.json of the digests of the scorers' weights."""
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class PackScores:
    """Encodes a unit's scores, their columns in one order whichever stage made them."""

    schema: pa.Schema

    def __call__(self, unit: Unit, table: pa.Table) -> list[Shard]:
        """`data/UNIT.parquet`."""
        return parquet_shard(unit, table.select(self.schema.names).cast(self.schema))


@dataclass(frozen=True, kw_only=True)
class ScoringJob:
    """A job that is ready to run.

    Attributes:
        config: Of the job.
        digests: Of the scorers' weights, by the scorer's name.
        source: The input.
        ledger: The output folder.
    """

    config: ScoreConfig
    digests: dict[str, str]
    source: ImageSource
    ledger: Ledger

    def run(self, on_progress: OnProgress | None = None) -> RunSummary:
        """Score all that is not done yet; write the manifest and the dataset card.

        Raises:
            ClusterTooSmallError: The job does not fit the cluster.
            JobFailedError: The job stopped; started again it goes on.
        """
        summary = run_units(scoring_units(self.config, self.digests, self.source), self.ledger, on_progress)
        write_card(self.ledger, self.config, self.digests, summary)
        return summary


def scoring_units(config: ScoreConfig, digests: dict[str, str], source: ImageSource) -> UnitJob:
    """What to run over the units, on the cluster that this driver is connected to.

    Args:
        config: Of the job.
        digests: Of the scorers' weights, by the scorer's name.
        source: The input.
    """
    decoding = Stage(
        worker=DecodeWorker,
        worker_args={"settings": config},
        resources=config.decoders,
        name="decode" if config.has_models else "",
    )
    stages: tuple[Stage, ...] = (decoding,)
    if config.has_models:
        models = on_cluster(config.models, cluster_nodes())
        arguments = {"settings": config.model_copy(update={"models": models}), "digests": digests}
        scoring = Stage(
            worker="pipelines.curation.model_worker:ModelWorker",  # imports torch
            worker_args=arguments,
            resources=models,
        )
        stages = (decoding, scoring)
    return UnitJob(
        stages=stages,
        read=source.reader,
        pack=PackScores(schema=scores_schema(config, source.passed_through)),
        unit_timeout_s=config.unit_timeout_s,
        max_failure_rate=config.max_failure_rate,
        failure_rate_rows=config.failure_rate_rows,
    )


@dataclass(frozen=True, kw_only=True)
class ScoringPlan:
    """A checked job that has written nothing yet but listings of the input.

    Attributes:
        config: Of the job.
        weights: Digests of the scorers' weights, by name.
        source: The input.
        run: What it will do.
    """

    config: ScoreConfig
    weights: dict[str, str]
    source: ImageSource
    run: PlannedRun

    def unit_job(self) -> UnitJob:
        """What to run over the units, on the cluster that this driver is connected to."""
        return scoring_units(self.config, self.weights, self.source)

    def open(self) -> ScoringJob:
        """Begin the run in the output folder, or go on with it.

        Raises:
            LedgerError: The output folder holds something else.
            StorageError: It cannot hold a run.
        """
        ledger = self.run.open(self.config.output)
        return ScoringJob(config=self.config, digests=self.weights, source=self.source, ledger=ledger)


def plan_scoring(config: ScoreConfig) -> ScoringPlan:
    """Look at the input, fetch the scorers' weights to this node, and cut the plan.

    Raises:
        SourceError: The input holds no images.
        ModelError: Weights cannot be fetched.
    """
    source = _open_source(config)
    digests = _fetched(config)
    run = planned_run(JOB, config, {WEIGHTS: digests}, source.objects, config.unit_rows, unique_id="row_id")
    return ScoringPlan(config=config, weights=digests, source=source, run=run)


def open_scoring_retry(output: str, overrides: Sequence[str] = ()) -> ScoringJob:
    """The job that runs the dead letters of a finished one again, with its settings.

    Args:
        output: The job's folder.
        overrides: Texts `a.b=value` for settings that do not change the output.

    Raises:
        LedgerError: There is no finished `score` job there, its input has changed, or an override would
            change the output.
        ModelError: Weights are not those of that job.
    """
    ledger = Ledger.load(output)
    config, digests = recorded_config(ScoreConfig, ledger, JOB, WEIGHTS, overrides)
    source = _open_source(config)
    refuse_other_input(ledger, source.objects, "input")
    if changed := differences(digests, _fetched(config)):
        raise LedgerError(f"{output}: the scorers' weights changed:\n  " + "\n  ".join(changed))
    ledger.plan_retries()
    return ScoringJob(config=config, digests=digests, source=source, ledger=ledger)


def _open_source(config: ScoreConfig) -> ImageSource:
    return open_source(config.input, config.source, child(config.output, INDEX), taken_names(config))


def _fetched(config: ScoreConfig) -> dict[str, str]:
    return fetch_scorers(config.scorers) if config.has_models else {}

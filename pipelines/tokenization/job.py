"""Tokenize the images of a dataset: the job `tokenize`.

summary = plan_tokenization(load_config(TokenizeConfig, …)).open().run(on_progress)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from pipelines.budget import cluster_nodes, on_cluster
from pipelines.cards.tokens import write_card
from pipelines.errors import RefusalError
from pipelines.ledger import Ledger
from pipelines.planned_run import PlannedRun, planned_run
from pipelines.reopening import recorded_config, refuse_other_input
from pipelines.sources import ImageSource, open_source
from pipelines.sources.opening import INDEX
from pipelines.storage import child
from pipelines.tally import Progress, RunSummary
from pipelines.tokenization.buckets import Bucket, make_buckets
from pipelines.tokenization.crop_worker import CropWorker
from pipelines.tokenization.packing import PackTokens
from pipelines.tokenization.settings import TokenizeConfig
from pipelines.tokenization.vq import VQFacts, vq_facts
from pipelines.unit_job import Stage, UnitJob
from pipelines.units import run_units

JOB, VQ, SCORE_CONDITION = "tokenize", "vq", "score_condition"
OnProgress = Callable[[Progress], None]


class TokenizationError(RefusalError):
    """Images that cannot be tokenized as configured; the message says why."""


@dataclass(frozen=True, kw_only=True)
class TokenizationJob:
    """A job that is ready to run.

    Attributes:
        config: Of the job.
        vq: What its tokens mean.
        source: The input.
        ledger: The output folder.
    """

    config: TokenizeConfig
    vq: VQFacts
    source: ImageSource
    ledger: Ledger

    def run(self, on_progress: OnProgress | None = None) -> RunSummary:
        """Tokenize all that is not done yet; write the manifest and the dataset card.

        Raises:
            ClusterTooSmallError: The job does not fit the cluster.
            JobFailedError: The job stopped; started again it goes on.
        """
        summary = run_units(tokenization_units(self.config, self.vq, self.source), self.ledger, on_progress)
        write_card(self.ledger, self.config, self.vq, summary)
        return summary


def tokenization_units(config: TokenizeConfig, vq: VQFacts, source: ImageSource) -> UnitJob:
    """What to run over the units, on the cluster that this driver is connected to.

    Args:
        config: Of the job.
        vq: What its tokens mean.
        source: The input.
    """
    encoders = on_cluster(config.encoders, cluster_nodes())
    config = config.model_copy(update={"encoders": encoders})
    cropping = Stage(
        worker=CropWorker,
        worker_args={"config": config, "buckets": buckets_of(config, vq)},
        resources=config.croppers,
        name="crop",
    )
    encoding = Stage(
        worker="pipelines.tokenization.encode_worker:EncodeWorker",  # imports torch
        worker_args={"config": config, "vq": vq},
        resources=encoders,
    )
    return UnitJob(
        stages=(cropping, encoding),
        read=source.reader,
        pack=PackTokens(validation_share=config.validation_share),
        unit_timeout_s=config.unit_timeout_s,
        max_failure_rate=config.max_failure_rate,
        failure_rate_rows=config.failure_rate_rows,
    )


@dataclass(frozen=True, kw_only=True)
class TokenizationPlan:
    """A checked job that has written nothing yet but listings of the input.

    Attributes:
        config: Of the job.
        vq: What its tokens mean.
        source: The input.
        run: What it will do.
    """

    config: TokenizeConfig
    vq: VQFacts
    source: ImageSource
    run: PlannedRun

    @property
    def weights(self) -> dict[str, str]:
        """The digest of what the workers load, by name."""
        return {self.config.model: self.vq.digest}

    def unit_job(self) -> UnitJob:
        """What to run over the units, on the cluster that this driver is connected to."""
        return tokenization_units(self.config, self.vq, self.source)

    def open(self) -> TokenizationJob:
        """Begin the run in the output folder, or go on with it.

        Raises:
            LedgerError: The output folder holds something else, such as tokens of another VQ model.
            StorageError: It cannot hold a run.
        """
        ledger = self.run.open(self.config.output)
        return TokenizationJob(config=self.config, vq=self.vq, source=self.source, ledger=ledger)


def plan_tokenization(config: TokenizeConfig) -> TokenizationPlan:
    """Look at the input, fetch the VQ model to this node, and cut the plan.

    Raises:
        SourceError: The input holds no images.
        ModelError: The VQ model cannot be fetched.
        TokenizationError: The resolution does not suit it, or a column is not there or of another type.
    """
    vq = vq_facts(config.model)
    buckets_of(config, vq)
    source = _open_source(config)
    score = None if config.score is None else config.score.condition().to_json()
    noted = {VQ: asdict(vq), SCORE_CONDITION: score}
    run = planned_run(JOB, config, noted, source.objects, config.unit_rows, unique_id="token_id")
    return TokenizationPlan(config=config, vq=vq, source=source, run=run)


def open_tokenization_retry(output: str, overrides: Sequence[str] = ()) -> TokenizationJob:
    """The job that runs the dead letters of a finished one again, with its settings.

    Args:
        output: The job's folder.
        overrides: Texts `a.b=value` for settings that do not change the output.

    Raises:
        LedgerError: There is no finished `tokenize` job there, its input has changed, or an override would
            change the output.
        ModelError: The VQ model is not the one of that job.
    """
    ledger = Ledger.load(output)
    config, recorded = recorded_config(TokenizeConfig, ledger, JOB, VQ, overrides, [SCORE_CONDITION])
    vq = vq_facts(config.model, recorded["digest"])
    source = _open_source(config)
    refuse_other_input(ledger, source.objects, "input")
    ledger.plan_retries()
    return TokenizationJob(config=config, vq=vq, source=source, ledger=ledger)


def buckets_of(config: TokenizeConfig, vq: VQFacts) -> list[Bucket]:
    """The sizes that images are cut to.

    Raises:
        TokenizationError: The resolution does not suit the VQ model.
    """
    try:
        return make_buckets(config.resolution, config.max_aspect, 2 * vq.factor)
    except ValueError as error:
        raise TokenizationError(f"{error}; set resolution") from error


def _open_source(config: TokenizeConfig) -> ImageSource:
    source = open_source(config.input, config.source, child(config.output, INDEX), ())
    fields = {field.name: field.type for field in source.passed_through}
    if config.score is not None:
        _check(config, fields, config.score.column, "score.column", "a number", _is_number)
    if config.captions is not None:
        _check(config, fields, config.captions, "captions", "a list of texts", _is_texts)
    return source


def _check(
    config: TokenizeConfig,
    fields: dict[str, pa.DataType],
    column: str,
    setting: str,
    wanted: str,
    suits: Callable[[pa.DataType], bool],
) -> None:
    if column not in fields:
        names = ", ".join(sorted(fields)) or "none"
        raise TokenizationError(f"{config.input}: no column '{column}'; columns are {names}; set {setting}")
    if not suits(fields[column]):
        raise TokenizationError(
            f"{config.input}: column '{column}' is {fields[column]}, not {wanted}; set {setting}"
        )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _is_texts(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(
        is_list and (pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type))
    )

"""Check a training before anything runs: model, token stores, batch sizes, and the folder of each stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meissonic import CheckpointError
from meissonic.config import TransformerConfig
from meissonic.model_folder import VQ_NAMES, read_configs
from pipelines.code_version import code_version
from pipelines.config import differences, identity
from pipelines.errors import LedgerError, RefusalError
from pipelines.json_files import parse_json
from pipelines.ledger import RUN_PATH
from pipelines.models import LocalModel, folder_digest
from pipelines.storage import Storage, open_storage
from pipelines.storage.probe import probe
from pipelines.training.job import FORMAT, stage_uri
from pipelines.training.model import stage_config, start_config
from pipelines.training.settings import StageSettings, TrainConfig
from pipelines.training.token_store import TokenStore, open_token_stores
from schemas.manifest import json_bytes


class TrainingError(RefusalError):
    """A training that cannot be run; the message says why."""


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """A checked stage that has written nothing yet.

    Attributes:
        stage: Its settings.
        storage: Its folder.
        request: What its run.json will say determines the output, but for the stage that it starts from.
        grid: Tokens (rows, columns) of most images.
    """

    stage: StageSettings
    storage: Storage
    request: dict[str, Any]
    grid: tuple[int, int]

    def open(self, start: dict[str, Any] | None) -> None:
        """Begin the stage, or go on with it.

        Args:
            start: Checkpoint that it starts from, as run.json describes it; None for the first stage.

        Raises:
            LedgerError: The folder holds another training.
        """
        probe(self.storage)
        request = {"format": FORMAT, "config": self.request | {"start": start}}
        self.storage.create(RUN_PATH, json_bytes(request | {"code_version": code_version()}))
        found = parse_json(self.storage.read(RUN_PATH), self.storage.uri_of(RUN_PATH))
        if lines := differences(_identity(found), _identity(request)):
            raise LedgerError(
                f"{self.storage.uri}: the training in this folder was begun with another configuration:\n"
                + "\n".join(f"  {line}" for line in lines)
                + "\nuse the same again to go on with it, or another output folder"
            )


def _identity(request: dict[str, Any]) -> dict[str, Any]:
    """What of a run.json must stay as it is; the model that training starts from may move."""
    config = request.get("config", {})
    digest = config.get("init", {}).get("digest")
    return {"format": request.get("format"), "config": config | {"init": digest}}


def plan_stages(config: TrainConfig, model: LocalModel) -> list[StagePlan]:
    """Check everything that needs no cluster.

    Raises:
        TrainingError: Batches do not divide, or model and token stores do not fit each other.
        TokenStoreError: A token store cannot be trained on.
        ModelError: The model cannot be fetched.
    """
    try:
        transformer = start_config(config, model.folder)
        codebook_size = read_configs(model.folder).vq.num_vq_embeddings
    except CheckpointError as error:
        raise TrainingError(f"{config.init}: {error}") from error
    vq_digest = folder_digest(model.folder, VQ_NAMES)
    plans: list[StagePlan] = []
    for stage in config.stages:
        _check_batches(config, stage)
        if not stage.train_text and any(plan.stage.train_text for plan in plans):
            raise TrainingError(
                f"stage {stage.name}: the text tower was trained before it; set train_text for this stage too"
            )
        store = open_token_stores(stage.datasets)
        if store.vq_digest != vq_digest:
            raise TrainingError(
                f"stage {stage.name}: its tokens are of the VQ model {store.vq_digest[:12]}, that of `init` "
                f"({config.init}) is {vq_digest[:12]}; tokenize again with it, or name the one that was used"
            )
        if store.codebook_size != codebook_size:
            raise TrainingError(
                f"stage {stage.name}: tokens of {store.codebook_size} codes, `init` has {codebook_size}"
            )
        transformer = stage_config(transformer, stage)
        _check_grids(stage, store, transformer)
        plans.append(_stage_plan(config, model.digest, stage, store, transformer))
    return plans


def _check_batches(config: TrainConfig, stage: StageSettings) -> None:
    workers = config.workers
    per_worker, rest = divmod(stage.batch_size, workers.num_workers)
    micro = workers.micro_batch_size or per_worker
    if rest or per_worker % max(micro, 1):
        raise TrainingError(
            f"stage {stage.name}: batch_size {stage.batch_size} does not divide among "
            f"workers.num_workers {workers.num_workers} in micro-batches of {micro}; nearest that does is "
            f"{max(round(stage.batch_size / (workers.num_workers * micro)), 1) * workers.num_workers * micro}"
        )


def _check_grids(stage: StageSettings, store: TokenStore, transformer: TransformerConfig) -> None:
    odd = [grid for grid in store.blocks if grid[0] % 2 or grid[1] % 2]
    if transformer.downsample and odd:
        raise TrainingError(
            f"stage {stage.name}: grids of {odd[0][0]}x{odd[0][1]} tokens cannot be compressed 2x2; "
            "tokenize at a resolution that is a multiple of twice the VQ model's factor"
        )


def _stage_plan(
    config: TrainConfig,
    init_digest: str,
    stage: StageSettings,
    store: TokenStore,
    transformer: TransformerConfig,
) -> StagePlan:
    grid = max(store.blocks, key=lambda g: (sum(block.num_rows for block in store.blocks[g]), g))
    shared = identity(config)
    del shared["stages"]
    request = shared | {
        "stage": identity(stage) | {"datasets": store.digest},
        "transformer": transformer.to_json(),
        "init": {"uri": config.init, "digest": init_digest},
        "resolution": [grid[1] * store.factor, grid[0] * store.factor],
        "score_condition": None if store.score is None else store.score.to_json(),
    }
    storage = open_storage(stage_uri(config.output, stage.name))
    # workers have working directories of their own
    datasets = tuple(open_storage(uri).uri for uri in stage.datasets)
    stage = stage.model_copy(update={"datasets": datasets})
    return StagePlan(stage=stage, storage=storage, request=request, grid=grid)

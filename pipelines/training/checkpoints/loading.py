"""Read a checkpoint: its files are brought to the node's disk, checked, and read as tensors alone."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load

from pipelines.models import cache_folder, file_digest
from pipelines.storage import ObjectMissingError, Storage
from pipelines.training.checkpoints.ranks import Ranks
from pipelines.training.checkpoints.reading import TensorPlanner, TensorReader
from pipelines.training.checkpoints.store import (
    CheckpointRecord,
    CheckpointStore,
    CheckpointStoreError,
    record_path,
)
from schemas.manifest import ObjectEntry, json_bytes

_THREADS = 4
_CHUNK_BYTES = 1 << 20


def load_into(store: CheckpointStore, step: int, state: dict[str, Any], ranks: Ranks) -> None:
    """Read a checkpoint into the tensors of `state`, on all ranks; see `Checkpointer.load`."""
    error: Exception | None = None
    try:
        record = store.record(step)
        folder = fetch_checkpoint(store.storage, record)
    except Exception as met:
        error = met
    ranks.agree(error)
    read_tensors(folder, state, store.storage.uri_of(record_path(step)), ranks)


def read_tensors(folder: Path, state: dict[str, Any], uri: str, ranks: Ranks | None = None) -> None:
    """Read a fetched checkpoint into the tensors of `state`; `ranks` where other ranks do the same.

    Raises:
        CheckpointStoreError: A name is not in it, or has another shape.
    """
    group = None if ranks is None else ranks.group
    try:
        with warnings.catch_warnings(
            category=UserWarning, action="ignore"
        ):  # that one process loads is meant
            load(
                state,
                storage_reader=TensorReader(folder),
                planner=TensorPlanner(),
                process_group=group,
                no_dist=group is None,
            )
    except CheckpointException as error:
        causes = "; ".join(sorted({str(cause) for cause, _ in error.failures.values()}))
        raise CheckpointStoreError(
            f"{uri}: it does not fit this model: {causes}; go on with the configuration that wrote it"
        ) from error


def fetch_checkpoint(storage: Storage, record: CheckpointRecord) -> Path:
    """Bring a checkpoint to this node's cache, unless it is there; its processes share one copy.

    Of the checkpoints of one folder the cache holds the one that was asked for last.

    Raises:
        CheckpointStoreError: A file is missing or is not what was written.
    """
    place = cache_folder() / "checkpoints" / hashlib.sha256(storage.uri.encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    target = place / hashlib.sha256(json_bytes(record.to_json())).hexdigest()[:16]
    with filelock.FileLock(place / "lock"):
        if target.is_dir():
            return target
        for other in place.iterdir():
            if other.is_dir():
                shutil.rmtree(other)
        temporary = Path(tempfile.mkdtemp(dir=place))
        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                list(pool.map(lambda entry: _download(storage, entry, temporary), record.files))
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def _download(storage: Storage, entry: ObjectEntry, folder: Path) -> None:
    uri = storage.uri_of(entry.path)
    file = folder / entry.path.rpartition("/")[2]
    try:
        with storage.open(entry.path) as source, file.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK_BYTES)
    except ObjectMissingError as error:
        raise CheckpointStoreError(
            f"{uri}: this file of the checkpoint is missing; delete its record to go on from an earlier one"
        ) from error
    if (digest := file_digest(file)) != entry.sha256:
        raise CheckpointStoreError(
            f"{uri}: its SHA-256 is {digest}, but {entry.sha256} was written; the file was changed or "
            "damaged: delete the checkpoint's record to go on from an earlier one"
        )

"""Save and load the state of a training; saving goes on in threads while the training does.

    checkpointer = Checkpointer(store=CheckpointStore(stage), rank=rank, world_size=world_size)
    checkpointer.save(step=100, state=gather_state(model, optimizer, average))

The training's thread copies this rank's share to the CPU. A thread of `torch.distributed.checkpoint` writes
it to the node's disk, another sends the files to the storage; when all are through, rank 0 writes the record.
"""

from __future__ import annotations

import logging
import shutil
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import async_save

from pipelines.models import file_digest
from pipelines.storage import StorageError
from pipelines.training.checkpoints.loading import load_into
from pipelines.training.checkpoints.ranks import Ranks
from pipelines.training.checkpoints.staging import StagingFolder, own_share
from pipelines.training.checkpoints.store import (
    CheckpointRecord,
    CheckpointStore,
    CheckpointStoreError,
    files_path,
)
from pipelines.training.settings import CheckpointSettings
from schemas.manifest import ObjectEntry

TIMEOUT_S = 3600.0
"""How long the first worker may wait for the last one's upload."""
_log = logging.getLogger(__name__)


class Checkpointer:
    """Saves and loads as one of the workers; all of them make one, and call its methods in the same order.

    Args:
        store: Where the checkpoints are.
        rank: This worker.
        world_size: Number of workers. Where a process group is initialised, they are its ranks.
        keep: What stays when a checkpoint is complete; None deletes nothing.
        timeout_s: Seconds that a worker waits for the slowest.
    """

    def __init__(
        self,
        *,
        store: CheckpointStore,
        rank: int,
        world_size: int,
        keep: CheckpointSettings | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.store, self.rank, self.world_size = store, rank, world_size
        self._keep = keep
        self._ranks = Ranks(rank, timeout_s)
        self._folder = StagingFolder()
        has_gpu = torch.cuda.is_available()
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=has_gpu,
                use_shared_memory=False,
                use_async_staging=False,
                use_non_blocking_copy=has_gpu,
            )
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:  # whatever the save met: the error that ends the training matters more
            if error is None:
                raise
            _log.exception("a checkpoint was not saved")

    def save(self, *, step: int, state: dict[str, Any]) -> None:
        """Save the state of a step; returns when it is copied, so that the training may change it.

        The save before is waited for first.

        Args:
            step: Optimizer steps that are done.
            state: Nested dicts of tensors, with the same names on all ranks; tensors that are not sharded
                must be the same on all.

        Raises:
            RefusalError: The save before failed, here or on another worker, and people can mend it.
            Exception: It failed in another way.
        """
        self.wait()
        folder = self._folder.fresh()
        written = async_save(
            own_share(state, self.rank, self.world_size),
            storage_writer=FileSystemWriter(folder, sync_files=False),
            process_group=self._ranks.group,
            async_stager=self._stager,
            no_dist=self._ranks.group is None,
        )
        assert isinstance(written, Future)  # the stager is not asynchronous
        self._saving = self._thread.submit(self._publish, step, folder, written)

    def newest(self) -> int | None:
        """The last complete checkpoint's step, as the first worker lists it: the same for all."""
        return self._ranks.first(self.store.newest() if self.rank == 0 else None)

    def wait(self) -> None:
        """Wait until the last save is complete; raises as `save` does."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def load(self, *, step: int, state: dict[str, Any]) -> None:
        """Read a checkpoint into the tensors of `state`, wherever they are and however they are sharded.

        Args:
            step: Of a complete checkpoint.
            state: As for `save`; each of its names must be in the checkpoint.

        Raises:
            CheckpointStoreError: There is no such checkpoint, it is damaged, or it does not fit.
        """
        self.wait()
        load_into(self.store, step, state, self._ranks)

    def close(self) -> None:
        """Wait for the last save, and give up threads, memory and disk; raises as `save` does."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._stager.close()
            self._folder.close()
            self._ranks.close()

    def _publish(self, step: int, folder: Path, written: Future[Any]) -> None:
        """Bring this rank's files to the storage; rank 0 then makes the checkpoint complete."""
        self._await_written(written)
        attempt = self._ranks.first(uuid.uuid4().hex)
        files: list[ObjectEntry] = []
        error: Exception | None = None
        try:
            files = self._upload(folder, files_path(step, attempt))
        except Exception as met:
            error = met
        self._ranks.agree(error)
        gathered = self._ranks.gather(files)
        if self.rank == 0:
            record = CheckpointRecord(
                step=step,
                files=tuple(sorted((entry for part in gathered for entry in part), key=lambda e: e.path)),
                world_size=self.world_size,
            )
            try:
                self.store.commit(record)
            except Exception as met:
                error = met
        self._ranks.agree(error)
        if self.rank == 0 and self._keep is not None:
            self._collect(self._keep)

    def _await_written(self, written: Future[Any]) -> None:
        """Wait until all ranks have written their files to their disks."""
        try:
            written.result()
        except CheckpointException as error:  # no Exception: nothing above would handle it
            causes = [cause for cause, _ in error.failures.values()]
            text = "; ".join(f"worker {rank}: {cause!r}" for rank, (cause, _) in error.failures.items())
            if all(isinstance(cause, OSError) for cause in causes):
                raise CheckpointStoreError(
                    f"cannot write a checkpoint to the node's disk ({text}); free space there, or set "
                    "MEISSONIC_CACHE to a folder that has it"
                ) from error
            raise RuntimeError(f"cannot write a checkpoint: {text}") from error

    def _upload(self, folder: Path, prefix: str) -> list[ObjectEntry]:
        entries = []
        for file in sorted(folder.iterdir()):
            path = f"{prefix}{file.name}"
            self.store.storage.write_file(path, file)
            size = file.stat().st_size
            entries.append(ObjectEntry(path=path, rows=0, sha256=file_digest(file), size=size))
            file.unlink()
        shutil.rmtree(folder)
        return entries

    def _collect(self, keep: CheckpointSettings) -> None:
        try:
            self.store.collect(keep.keep_last, keep.keep_every)
        except StorageError as error:
            _log.warning("%s; old checkpoints stay", error)  # no reason to end a training

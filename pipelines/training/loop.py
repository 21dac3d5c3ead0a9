"""The steps from a checkpoint to a stage's end, on one worker.

Which samples a step has, and all that is drawn for them, is a function of seed, token stores and step: the
same after a restart and with any number of workers. Losses are looked at every few steps, so that a GPU need
not wait for the CPU; the state is never written before they are.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Collection
from contextlib import closing, nullcontext
from typing import Any

import torch
import torch.distributed as dist

from meissonic.objective import RATE_BINS, num_masked
from meissonic.parallel import without_sync
from meissonic.training import TrainingBatch
from pipelines.training.batches import BatchLoader
from pipelines.training.checkpoints import Checkpointer
from pipelines.training.job import StageJob
from pipelines.training.learning_rate import learning_rate
from pipelines.training.logs import TrainingLog
from pipelines.training.monitor import TrainingProgress
from pipelines.training.order import SampleOrder
from pipelines.training.precision import computing
from pipelines.training.rates import RateMeter
from pipelines.training.skips import NotFiniteError, data_indices
from pipelines.training.stage_model import StageModel
from pipelines.training.token_store import TokenStore
from pipelines.training.trackers import open_trackers
from pipelines.training.validation import Validation


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Done:
    """A step whose numbers are still on the device."""

    step: int
    index: int
    grid: tuple[int, int]
    loss: torch.Tensor
    by_rate_K2: torch.Tensor
    grad_norm: torch.Tensor


class Steps:
    """A worker's part of the steps that are left.

    Attributes:
        job: The stage.
        trained: Its model, as the last step that was done has left it.
        store: Its token stores.
        order: Which samples each batch has.
        checkpointer: Saves the state.
        monitor: The driver's, an actor.
        peak_flop_per_s: Of a worker's device.
    """

    def __init__(
        self,
        job: StageJob,
        trained: StageModel,
        store: TokenStore,
        order: SampleOrder,
        checkpointer: Checkpointer,
        monitor: Any,
        peak_flop_per_s: float,
    ) -> None:
        self.job, self.trained, self.store, self.order = job, trained, store, order
        self.checkpointer, self.monitor = checkpointer, monitor
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        parts = trained.parts
        self.meter = RateMeter(
            parts.transformer.config, parts.text_encoder.config, peak_flop_per_s * self.world_size
        )
        self.validation = Validation(job, store, trained)
        self.log: TrainingLog | None = None
        self.pending = list[_Done]()

    def run(self, first: int, skipped: Collection[int]) -> None:
        """Do all steps from this one on, without the batches that are left out.

        Raises:
            NotFiniteError: A loss or gradient is not finite; all workers see the same.
        """
        config, stage = self.job.config, self.job.stage
        self.log = self._open_log(first) if self.rank == 0 else None
        with closing(self.log) if self.log is not None else nullcontext(), closing(self._loader()) as loader:
            batches = loader.iterate(data_indices(first, skipped))
            for step in range(first, stage.num_steps):
                self._step(step, next(batches))
                done, last = step + 1, step + 1 == stage.num_steps
                every = config.validation.every_steps
                validates = every is not None and (last or done % every == 0)
                saves = last or done % config.checkpoints.every_steps == 0
                if saves or validates or done % config.logging.every_steps == 0:
                    self._look(loader.wait_s, len(skipped))
                if validates:
                    self._validate(done)
                if saves:
                    self._save(done)
            self.checkpointer.wait()

    def _step(self, step: int, batch: list[TrainingBatch]) -> None:
        """One optimizer step over this worker's micro-batches."""
        index, stage, seed = batch[0].index, self.job.stage, self.job.config.seed
        rows, columns = batch[0].tokens_BHW.shape[1:]
        total = num_masked(self.trained.model.config, seed, index, stage.batch_size, rows * columns)
        loss = torch.zeros((), device=self.trained.device)
        by_rate_K2 = torch.zeros(len(RATE_BINS), 2, device=self.trained.device)
        for number, part in enumerate(batch):
            with (
                without_sync(self.trained.module, number < len(batch) - 1),
                computing(self.job.config.precision, self.trained.device),
            ):
                summed, part_by_rate = self.trained.module(part.to(self.trained.device))
                part_loss = summed / total
                # gradients are averaged over the workers, each of which has a part of the sum
                (part_loss * self.world_size).backward()
            loss += part_loss.detach()
            by_rate_K2 += part_by_rate
        grad_norm = self.trained.update(step)
        self.meter.add(samples=stage.batch_size, grid=(rows, columns), num_masked=total)
        self.pending.append(
            _Done(
                step=step,
                index=index,
                grid=(rows, columns),
                loss=loss,
                by_rate_K2=by_rate_K2,
                grad_norm=grad_norm,
            )
        )

    def _look(self, waited_s: float, num_skipped: int) -> None:
        """Read the numbers of the steps since the last time, from the device and all workers.

        Raises:
            NotFiniteError: One is not finite; all workers see the same.
        """
        steps, self.pending = self.pending, []
        losses = torch.stack([done.loss for done in steps])
        dist.all_reduce(losses)
        norms = torch.stack([done.grad_norm for done in steps]).tolist()
        numbers = list(zip(steps, losses.tolist(), norms, strict=True))
        for done, loss, norm in numbers:
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise NotFiniteError(step=done.step, index=done.index, loss=loss, grad_norm=norm)
        by_rate_K2 = torch.stack([done.by_rate_K2 for done in steps]).sum(0)
        dist.all_reduce(by_rate_K2)
        rates = self.meter.read(waited_s)
        if self.log is None:
            return
        for done, loss, norm in numbers:
            values = {
                "loss": loss,
                "grad_norm": norm,
                "learning_rate": learning_rate(self.job.stage, done.step),
                "epoch": self.order.epoch(done.index),
                "batch": done.index,
                "height": done.grid[0],
                "width": done.grid[1],
            }
            self.log.write("step", done.step + 1, values)
        by_rate = zip(RATE_BINS, by_rate_K2.tolist(), strict=True)
        losses_by_rate = {name: loss / count for name, (loss, count) in by_rate if count}
        self.log.write("masking_rate", steps[-1].step + 1, {"loss": losses_by_rate})
        self.log.write("rate", steps[-1].step + 1, dataclasses.asdict(rates))
        progress = TrainingProgress(
            stage=self.job.stage.name,
            step=steps[-1].step + 1,
            num_steps=self.job.stage.num_steps,
            loss=sum(losses.tolist()) / len(steps),
            steps_per_s=rates.samples_per_s / self.job.stage.batch_size,
            rates=rates,
            skipped=num_skipped,
        )
        self.monitor.report.remote(progress)

    def _validate(self, step: int) -> None:
        began = time.monotonic()
        losses = self.validation.losses()
        samples = self.validation.samples()
        if self.log is not None:
            if losses:
                self.log.write("validation", step, {"loss": losses})
            if samples is not None:
                self.log.picture(step, samples)
                self.log.write("samples", step, {"prompts": list(self.job.config.validation.prompts)})
        self.meter.pause(time.monotonic() - began)

    def _save(self, step: int) -> None:
        if self.log is not None:
            self.log.cut(step)
        began = time.monotonic()
        self.checkpointer.save(step=step, state=self.trained.state())
        self.meter.pause(time.monotonic() - began)

    def _loader(self) -> BatchLoader:
        config = self.job.config
        per_worker = self.job.stage.batch_size // self.world_size
        return BatchLoader(
            self.store,
            self.order,
            self.trained.parts.tokenizer,
            seed=config.seed,
            captions=config.captions,
            rank=self.rank,
            world_size=self.world_size,
            micro_batch_size=config.workers.micro_batch_size or per_worker,
            pin_memory=self.trained.device.type == "cuda",
        )

    def _open_log(self, first: int) -> TrainingLog:
        job = self.job
        run = job.storage.uri.rstrip("/").replace("/", "-").replace(":", "-")[-100:]
        trackers = open_trackers(
            job.config.logging, job.storage, first, run, job.config.model_dump(mode="json")
        )
        return TrainingLog(job.storage, first, trackers)

"""The steps of a stage on one worker.

Which samples a step has, and all that is drawn for them, is a function of seed, token stores and step: the
same after a restart and with any number of workers. Losses are looked at every few steps, so that a GPU need
not wait for the CPU; the state is never written before they are.
"""

from __future__ import annotations

import dataclasses
import math
import time
from contextlib import ExitStack, closing
from typing import Any

import torch
import torch.distributed as dist

from meissonic.objective import ObjectiveConfig, num_masked
from meissonic.parallel import without_sync
from meissonic.training import TrainingBatch
from pipelines.training.arithmetic import arithmetic
from pipelines.training.batches import BatchLoader
from pipelines.training.checkpoints import Checkpointer
from pipelines.training.job import StageJob
from pipelines.training.learning_rate import learning_rate
from pipelines.training.logs import TrainingLog
from pipelines.training.monitor import TrainingProgress
from pipelines.training.order import SampleOrder
from pipelines.training.rates import RateMeter, matmul_rate
from pipelines.training.skips import DivergedError, NotFiniteError, data_indices, read_skips, write_skip
from pipelines.training.stage_model import DTYPES, StageModel
from pipelines.training.token_store import open_token_stores
from pipelines.training.trackers import open_trackers
from pipelines.training.validation import Validation


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Done:
    """A step whose numbers are still on the device."""

    step: int
    index: int
    grid: tuple[int, int]
    loss: torch.Tensor
    grad_norm: torch.Tensor


class StageLoop:
    """A worker's part of a stage."""

    def __init__(self, job: StageJob, checkpointer: Checkpointer, monitor: Any, device: torch.device) -> None:
        self.job, self.checkpointer, self.monitor, self.device = job, checkpointer, monitor, device
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        config, stage = job.config, job.stage
        self.objective = ObjectiveConfig(**config.objective.model_dump())
        self.store = open_token_stores(stage.datasets)
        self.order = SampleOrder(
            {grid: [block.num_rows for block in blocks] for grid, blocks in self.store.blocks.items()},
            seed=config.seed,
            batch_size=stage.batch_size,
            window_blocks=config.window_blocks,
        )
        self.peak = config.logging.peak_flop_per_s or matmul_rate(device, DTYPES[config.precision])
        self.pending = list[_Done]()

    def run(self) -> None:
        """Train to the last step.

        Raises:
            DivergedError: Too many batches were not finite.
        """
        while True:
            self.trained = StageModel(self.job, self.objective, self.device)
            first = self._restore()
            skipped = read_skips(self.job.storage)
            try:
                self._run_from(first, skipped)
                return
            except NotFiniteError as fault:
                self._leave_out(fault, skipped)

    def _restore(self) -> int:
        """Go back to the newest checkpoint, if there is any; gives the steps that are done."""
        step = self.checkpointer.store.newest()
        if step is None:
            return 0
        state = self.trained.state()
        self.checkpointer.load(step=step, state=state)
        self.trained.restore(state)
        return step

    def _run_from(self, first: int, skipped: frozenset[int]) -> None:
        config, stage = self.job.config, self.job.stage
        parts = self.trained.parts
        self.meter = RateMeter(
            parts.transformer.config, parts.text_encoder.config, self.peak, self.world_size
        )
        self.validation = Validation(self.job, self.store, self.trained, self.device)
        with ExitStack() as stack:
            self.log = stack.enter_context(closing(self._open_log(first))) if self.rank == 0 else None
            self.loader = stack.enter_context(closing(self._loader()))
            batches = self.loader.iterate(data_indices(first, skipped))
            for step in range(first, stage.num_steps):
                self._step(step, next(batches))
                done, last = step + 1, step + 1 == stage.num_steps
                every = config.validation.every_steps
                validates = every is not None and (last or done % every == 0)
                saves = last or done % config.checkpoints.every_steps == 0
                if saves or validates or done % config.logging.every_steps == 0:
                    self._look(len(skipped))
                if validates:
                    self._validate(done)
                if saves:
                    self._save(done)
            self.checkpointer.wait()

    def _step(self, step: int, batch: list[TrainingBatch]) -> None:
        """One optimizer step over this worker's micro-batches."""
        index, stage = batch[0].index, self.job.stage
        rows, columns = batch[0].tokens_BHW.shape[1:]
        total = num_masked(self.objective, self.job.config.seed, index, stage.batch_size, rows * columns)
        loss = torch.zeros((), device=self.device)
        for number, part in enumerate(batch):
            with (
                without_sync(self.trained.module, number < len(batch) - 1),
                arithmetic(self.job.config, self.device),
            ):
                part_loss = self.trained.module(part.to(self.device)) / total
                # gradients are averaged over the workers, each of which has a part of the sum
                (part_loss * self.world_size).backward()
            loss += part_loss.detach()
        grad_norm = self.trained.update(step)
        self.meter.add(samples=stage.batch_size, grid=(rows, columns), num_masked=total)
        self.pending.append(
            _Done(step=step, index=index, grid=(rows, columns), loss=loss, grad_norm=grad_norm)
        )

    def _look(self, num_skipped: int) -> None:
        """Read the numbers of the steps since the last time, from the device and all workers.

        Raises:
            NotFiniteError: One is not finite; all workers see the same.
        """
        steps, self.pending = self.pending, []
        if not steps:
            return
        losses = torch.stack([done.loss for done in steps])
        dist.all_reduce(losses)
        norms = torch.stack([done.grad_norm for done in steps]).tolist()
        numbers = list(zip(steps, losses.tolist(), norms, strict=True))
        for done, loss, norm in numbers:
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise NotFiniteError(step=done.step, index=done.index, loss=loss, grad_norm=norm)
        rates = self.meter.read(self.loader.wait_s)
        if self.log is None:
            return
        for done, loss, norm in numbers:
            values = {
                "loss": loss,
                "grad_norm": norm,
                "learning_rate": learning_rate(self.job.stage, done.step),
                "epoch": self.order.batch(done.index).epoch,
                "batch": done.index,
                "height": done.grid[0],
                "width": done.grid[1],
            }
            self.log.write("step", done.step + 1, values)
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
        self.meter.pause(time.monotonic() - began)

    def _save(self, step: int) -> None:
        if self.log is not None:
            self.log.cut(step)
        began = time.monotonic()
        self.checkpointer.save(step=step, state=self.trained.state(), extra={})
        self.meter.pause(time.monotonic() - began)

    def _leave_out(self, fault: NotFiniteError, skipped: frozenset[int]) -> None:
        """Record that the batch is left out, for this run and any that goes on with it."""
        self.checkpointer.wait()  # a checkpoint that is being written may be the last good one
        if len(skipped) >= self.job.config.max_skipped_batches:
            raise DivergedError(
                f"{self.job.storage.uri}: {fault}; {len(skipped)} batches were left out before for the same, "
                "which is max_skipped_batches; lower the learning rate or lengthen the warm-up"
            )
        if self.rank == 0:
            write_skip(self.job.storage, fault)
        dist.barrier()

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
            pin_memory=self.device.type == "cuda",
        )

    def _open_log(self, first: int) -> TrainingLog:
        job = self.job
        run = job.storage.uri.rstrip("/").replace("/", "-").replace(":", "-")[-100:]
        trackers = open_trackers(
            job.config.logging, job.storage, first, run, job.config.model_dump(mode="json")
        )
        return TrainingLog(job.storage, first, trackers)

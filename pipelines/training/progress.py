"""Show how far a training is: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pipelines.progress import duration
from pipelines.training.monitor import TrainingProgress

_PLAIN_EVERY_S = 10.0


@contextmanager
def show_training(stream: TextIO | None = None) -> Iterator[Callable[[TrainingProgress, int], None]]:
    """A function to give to `Training.run`; `stream` is where to write, None for the standard error."""
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield _plain(stream)
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), console=Console(file=stream)) as live:
        task = live.add_task("starting workers")

        def update(progress: TrainingProgress, restarts: int) -> None:
            text = training_line(progress, restarts)
            live.update(task, total=progress.num_steps, completed=progress.step, description=text)

        yield update


def training_line(progress: TrainingProgress, restarts: int) -> str:
    """One line: stage, step, loss, rates, what went wrong, time left."""
    rates, left = progress.rates, progress.num_steps - progress.step
    parts = [
        f"{progress.stage}: step {progress.step:,} of {progress.num_steps:,} "
        f"({progress.step / progress.num_steps:.1%})",
        f"loss {progress.loss:.3f}",
        f"{rates.samples_per_s:,.1f} samples/s",
        f"{rates.tokens_per_s:,.0f} tokens/s",
        f"utilisation {rates.utilisation:.0%}",
        f"waiting for data {rates.data_wait:.0%}",
    ]
    if restarts:
        parts.append(f"{restarts} restarts of workers")
    if progress.skipped:
        parts.append(f"{progress.skipped} batches left out")
    if left:
        parts.append(f"{duration(left / progress.steps_per_s)} left")
    return ", ".join(parts)


def _plain(stream: TextIO) -> Callable[[TrainingProgress, int], None]:
    written_at, written_step = -math.inf, -1

    def write(progress: TrainingProgress, restarts: int) -> None:
        nonlocal written_at, written_step
        due = time.monotonic() - written_at >= _PLAIN_EVERY_S or progress.step == progress.num_steps
        if due and progress.step != written_step:
            written_at, written_step = time.monotonic(), progress.step
            print(training_line(progress, restarts), file=stream, flush=True)

    return write

"""Show how far a run is: a live line on a terminal, a plain line now and then elsewhere.

    with show_progress("prompts", "images") as on_progress:
        summary = run_units(job, ledger, on_progress)
    print(summary_text(summary, "prompts", "images"))

The first name is what an input row is, the second what a result is.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from pipelines.tally import Progress, RunSummary

_PLAIN_EVERY_S = 10.0


@contextmanager
def show_progress(
    label: str, results: str, stream: TextIO | None = None
) -> Iterator[Callable[[Progress], None]]:
    """A function to give to `run_units` that shows what it is called with.

    Args:
        label: What a row is, in the plural.
        results: What a result row is.
        stream: Where to write; None for the standard error.
    """
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield _plain(label, results, stream)
        return
    columns = (TextColumn("{task.description}"), BarColumn())
    with RichProgress(*columns, console=Console(file=stream)) as live:
        task = live.add_task(f"{label}: starting workers")

        def update(progress: Progress) -> None:
            finished = progress.rows_total - progress.rows_left
            live.update(
                task,
                total=progress.rows_total,
                completed=finished,
                description=progress_line(progress, label, results),
            )

        yield update


def progress_line(progress: Progress, label: str, results: str) -> str:
    """One line of text: how much is done, failed and left, how fast, and until when."""
    ended = progress.rows_done + progress.rows_failed
    parts = [f"{label} {ended:,} of {progress.rows_total:,} ({ended / progress.rows_total:.1%})"]
    if progress.rows_failed:
        parts.append(f"{progress.rows_failed:,} failed")
    if progress.rows_earlier:
        parts.append(f"{progress.rows_earlier:,} from earlier runs")
    parts.append(f"{progress.results_per_s:,.1f} {results}/s")
    parts.append(f"{progress.busy_workers} workers busy")
    if progress.waiting_for:
        parts.append(progress.waiting_for)
    if progress.worker_deaths:
        parts.append(f"{progress.worker_deaths} deaths of workers")
    if progress.rows_left and progress.eta_s is not None:
        parts.append(f"{duration(progress.eta_s)} left")
    return ", ".join(parts)


def summary_text(summary: RunSummary, label: str, results: str, *, can_retry: bool = True) -> str:
    """Some lines of text for the end of a run: counts, speed, where the time went, what to do next.

    Args:
        summary: Of the run.
        label: What a row is, in the plural.
        results: What a result row is.
        can_retry: Whether `retry-failed` runs the dead letters of such a job.
    """
    lines = [
        f"{summary.output}: {summary.rows_done:,} of {summary.rows:,} {label} done, "
        f"{summary.rows_failed:,} failed, {summary.rows_out:,} {results}",
        f"this run: {summary.results_run:,} {results} in {duration(summary.elapsed_s)}, "
        f"{summary.results_per_s:,.1f} {results}/s, {summary.units_run:,} of {summary.units:,} units",
    ]
    spent = sum(summary.seconds.values())
    if spent > 0:
        stages = sorted(summary.seconds.items(), key=lambda item: -item[1])
        lines.append("time: " + ", ".join(f"{name} {seconds / spent:.0%}" for name, seconds in stages))
    for kind, count in sorted(summary.events.items()):
        lines.append(f"noted: {kind}, {count:,} times")
    for kind, count in sorted(summary.failures.items(), key=lambda item: -item[1]):
        lines.append(f"failed: {count:,} {kind}")
    if summary.failures and can_retry:
        lines.append(f"next: read {summary.output}/failed, correct the cause, then")
        lines.append(f"  python -m jobs retry-failed {summary.output}")
    elif summary.failures:
        lines.append(
            f"next: read {summary.output}/failed, correct the cause, and start again under another name"
        )
    lines.append(f"check every byte: python -m jobs verify {summary.output}")
    lines.append(f"manifest: {summary.manifest}")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Seconds for people: "42 s", "3 min 20 s", "5 h 12 min", "2 d 3 h"."""
    whole = round(seconds)
    steps = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))
    for size, unit, smaller_size, smaller in steps:
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller_size} {smaller}"
    return f"{whole} s"


def _plain(label: str, results: str, stream: TextIO) -> Callable[[Progress], None]:
    written_at, ended = -math.inf, False

    def write(progress: Progress) -> None:
        nonlocal written_at, ended
        ends_now = progress.rows_left == 0 and not ended
        if time.monotonic() - written_at >= _PLAIN_EVERY_S or ends_now:
            written_at, ended = time.monotonic(), progress.rows_left == 0
            print(progress_line(progress, label, results), file=stream, flush=True)

    return write

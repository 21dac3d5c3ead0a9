"""What every report of a bulk job begins with: counts, rates, hours, where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.filesize import decimal

from pipelines.pages.charts import Chart, bar_chart, line_chart
from pipelines.pages.words import utc_time
from pipelines.progress import duration
from pipelines.reports.committed import CommittedRun

Facts = list[tuple[str, str]]


def run_facts(found: CommittedRun, inputs: str, results: str) -> Facts:
    """Counts and rates.

    Args:
        found: What is committed.
        inputs: What an input row is, in the plural.
        results: What a result row is.
    """
    summary, throughput = found.summary, found.throughput
    ended = summary.rows_done + summary.rows_failed
    facts = [
        (results, f"{summary.rows_out:,}"),
        (f"{inputs} done", f"{summary.rows_done:,} of {summary.rows:,}"),
        ("failed", f"{summary.rows_failed:,}" + (f" ({summary.rows_failed / ended:.1%})" if ended else "")),
        ("bytes", decimal(summary.bytes_out)),
    ]
    if throughput is None:
        return [*facts, ("state", "nothing is done yet")]
    seconds = throughput.ended_at - throughput.began_at
    return [
        *facts,
        ("state", "finished" if found.is_finished else "not finished"),
        ("began", utc_time(throughput.began_at)),
        ("last commit", utc_time(throughput.ended_at)),
        ("from first to last", duration(seconds)),
        (f"{results} a second, pauses included", f"{summary.rows_out / seconds:,.2f}" if seconds else ""),
        ("nodes", f"{len(found.hosts):,}"),
    ]


def cost_facts(found: CommittedRun, price: float | None) -> Facts:
    """Hours of workers and of their GPUs, and what they cost.

    Args:
        found: What is committed.
        price: Of a GPU-hour; of a worker's where it is not known to have one.
    """
    hours = found.worker_s / 3600
    resources: Mapping[str, Any] = found.ledger.spec.settings.get("resources", {})
    gpus, unit = resources.get("num_gpus"), "worker-hour"
    facts = [("worker-hours, without starts", f"{hours:,.3g}")]
    if isinstance(gpus, int | float) and gpus:
        hours, unit = hours * gpus, "GPU-hour"
        facts.append(("GPU-hours", f"{hours:,.3g}"))
    if found.summary.rows_out and hours:
        facts.append((f"results a {unit}", f"{found.summary.rows_out / hours:,.0f}"))
    if price is None:
        return facts
    facts.append(("cost", f"{price * hours:,.2f}"))
    if found.summary.rows_out:
        facts.append(("cost of a thousand results", f"{1000 * price * hours / found.summary.rows_out:,.3g}"))
    return facts


def throughput_charts(found: CommittedRun, results: str) -> list[Chart]:
    """The rate over time, and where the time went.

    Args:
        found: What is committed.
        results: What a result row is, in the plural.
    """
    charts = []
    if found.throughput is not None and len(found.throughput.rates) > 1:
        charts.append(
            line_chart(
                title=f"{results.capitalize()} a second, over time",
                x="minutes since the first unit began",
                y=f"{results} a second",
                series={results: found.throughput.rates},
            )
        )
    spent = {name: value for name, value in found.summary.seconds.items() if value >= 0.001}
    if spent:
        ordered = dict(sorted(spent.items(), key=lambda item: -item[1]))
        charts.append(
            bar_chart(title="Where the time of workers and tasks went", label="seconds", values=ordered)
        )
    return charts

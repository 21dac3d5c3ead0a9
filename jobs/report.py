"""The command `report`."""

from __future__ import annotations

import click

from jobs.command import command


@click.command("report")
@click.argument("output")
@click.option(
    "--price", type=click.FloatRange(min=0), help="Of a GPU-hour; of a worker's where it has no GPU."
)
@command
def report_command(output: str, price: float | None) -> None:
    """Make OUTPUT/report.html again from what the job in OUTPUT has written so far. Needs no Ray."""
    from pipelines.reports.writing import write_report

    click.echo(f"report: {write_report(output, price)}")

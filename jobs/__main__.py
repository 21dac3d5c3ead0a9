"""The command line: `python -m jobs NAME …`; `python -m jobs --help` lists the jobs.

A command imports what it needs when it runs: `--help` and `verify` need not wait for torch and Ray.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from jobs.command import FAILED, command, config_option, json_option, overrides_option, run_and_tell
from jobs.curation import curate_command, retry_scoring, score_command, select_command
from jobs.doctor import doctor_command
from jobs.packaging import package_command, retry_packaging
from jobs.ray_session import connect
from jobs.report import report_command
from jobs.submission import list_command, logs_command, stop_command, submit_command
from jobs.tokenization import retry_tokenization, tokenize_command
from jobs.training import export_command, train_command
from jobs.view import view_command
from jobs.weights_command import weights_group
from pipelines.config import load_config

if TYPE_CHECKING:
    from pipelines.estimate import Estimate
    from pipelines.status import RunStatus


@click.group(context_settings={"max_content_width": 110})
def main() -> None:
    """Meissonic on Ray: batch jobs around a masked-image-modelling text-to-image model."""


@main.command("generate")
@config_option
@overrides_option
@command
def generate_command(path: str | None, overrides: tuple[str, ...]) -> None:
    """Generate images for a prompt table. Started again, it goes on where it stopped."""
    from pipelines.generate import open_job
    from pipelines.generation_config import GenerateConfig

    job = open_job(load_config(GenerateConfig, path, overrides))
    connect()
    run_and_tell(job, "prompts", "images")


@main.command("retry-failed")
@click.argument("output")
@overrides_option
@command
def retry_command(output: str, overrides: tuple[str, ...]) -> None:
    """Run the failed rows of the job in OUTPUT again, with its models and settings."""
    from pipelines.ledger import Ledger

    retries = {"package": retry_packaging, "score": retry_scoring, "tokenize": retry_tokenization}
    other = retries.get(Ledger.load(output).spec.job)
    if other is not None:
        other(output, overrides)
        return
    from pipelines.generate import open_retry

    job = open_retry(output, overrides)
    connect()
    run_and_tell(job, "prompts", "images")


@main.group("plan")
def plan_group() -> None:
    """Tell what a job will run, and what that will take."""


@plan_group.command("generate")
@config_option
@overrides_option
@click.option(
    "--sample",
    "sample_units",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Units to run first, for the rate. They count: the job has them done.",
)
@click.option(
    "--price", type=click.FloatRange(min=0), help="Of a GPU-hour; of a worker's where it has no GPU."
)
@click.option("--workers", type=click.IntRange(min=1), help="Workers to tell the time for.")
@json_option
@command
def plan_generate_command(
    path: str | None,
    overrides: tuple[str, ...],
    sample_units: int,
    price: float | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Units, rows and bytes; after a sample of units also rate, GPU-hours, output size and cost.

    Without --sample nothing is written, and no cluster is needed.
    """
    from pipelines.estimate import estimate_text
    from pipelines.generate import plan_job
    from pipelines.generate_estimate import estimate_job, run_sample
    from pipelines.generation_config import GenerateConfig
    from pipelines.progress import show_progress

    planned = plan_job(load_config(GenerateConfig, path, overrides))
    if sample_units:
        job = planned.open()
        connect()
        with show_progress("prompts", "images") as on_progress:
            run_sample(job, sample_units, on_progress)
    found = estimate_job(planned, price)
    _show(found, as_json, estimate_text(found, "prompts", "images", workers))


@main.command("status")
@click.argument("output")
@json_option
@command
def status_command(output: str, as_json: bool) -> None:
    """Tell how far the job in OUTPUT is, from any machine that can read the folder."""
    from pipelines.status import run_status, status_text

    status = run_status(output)
    _show(status, as_json, status_text(status))


@main.command("verify")
@click.argument("output")
@command
def verify_command(output: str) -> None:
    """Recount and rehash the job in OUTPUT: every object, row and id. Exits with 1 if anything is wrong."""
    from pipelines.verify import verify

    report = verify(output)
    click.echo(str(report))
    if report.problems:
        sys.exit(FAILED)


@main.command("gc")
@click.argument("output")
@click.option("--delete", is_flag=True, help="Delete them; without it they are only listed.")
@click.option("--older-than", "age_h", default=24.0, show_default=True, help="Hours since they were written.")
@command
def gc_command(output: str, delete: bool, age_h: float) -> None:
    """List what no record names in OUTPUT: objects of killed runs, and uploads that never ended."""
    from pipelines.garbage import collect_garbage, find_garbage

    found = (collect_garbage if delete else find_garbage)(output, age_h * 3600)
    for entry in found.objects:
        click.echo(f"{entry.size_bytes:>12,}  {entry.path}")
    for upload in found.uploads:
        click.echo(f"{'upload':>12}  {upload.path}")
    total = sum(entry.size_bytes for entry in found.objects)
    click.echo(
        f"{len(found.objects):,} objects, {total:,} bytes, {len(found.uploads):,} unfinished uploads"
        f"{': deleted' if delete else '; --delete removes them'}"
    )


def _show(value: RunStatus | Estimate, as_json: bool, text: str) -> None:
    click.echo(json.dumps(asdict(value)) if as_json else text)


for added in (
    score_command,
    curate_command,
    select_command,
    tokenize_command,
    train_command,
    export_command,
    report_command,
    package_command,
    weights_group,
    view_command,
    doctor_command,
    submit_command,
    list_command,
    logs_command,
    stop_command,
):
    main.add_command(added)


if __name__ == "__main__":
    main()

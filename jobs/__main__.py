"""The command line: `python -m jobs NAME …`; `python -m jobs --help` lists the jobs."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click

from meissonic import CheckpointError
from pipelines.budget import ClusterTooSmallError
from pipelines.config import ConfigError, load_config
from pipelines.garbage import collect_garbage, find_garbage
from pipelines.generate import generate, retry_failed
from pipelines.generation_config import GenerateConfig
from pipelines.ledger import LedgerError
from pipelines.models import ModelError
from pipelines.plan import PlanError
from pipelines.progress import show_progress, summary_text
from pipelines.prompts import PromptTableError
from pipelines.storage import StorageError
from pipelines.units import JobFailedError
from pipelines.verify import verify

FAILED, INTERRUPTED = 1, 130
REFUSALS = (
    CheckpointError,
    ClusterTooSmallError,
    ConfigError,
    JobFailedError,
    LedgerError,
    ModelError,
    PlanError,
    PromptTableError,
    StorageError,
)
"""Errors that the user can do something about: their message is all that is shown."""

P = ParamSpec("P")
R = TypeVar("R")


@click.group(context_settings={"max_content_width": 110})
def main() -> None:
    """Meissonic on Ray: batch jobs around a masked-image-modelling text-to-image model."""


def job(function: Callable[P, R]) -> Callable[P, R]:
    """Show refusals as one message, and say how to go on after Ctrl-C."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except REFUSALS as error:
            click.secho(f"error: {error}", err=True, fg="red")
            sys.exit(FAILED)
        except KeyboardInterrupt:
            click.echo(
                "\nstopped; what was committed is kept. Run the same command again to go on.", err=True
            )
            sys.exit(INTERRUPTED)

    return run


overrides = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting; keys are dotted."
)


@main.command("generate")
@click.option("--config", "path", type=click.Path(dir_okay=False), help="YAML file with the job's settings.")
@overrides
@job
def generate_command(path: str | None, overrides: tuple[str, ...]) -> None:
    """Generate images for a prompt table. Started again, it goes on where it stopped."""
    config = load_config(GenerateConfig, path, overrides)
    connect()
    with show_progress("prompts", "images") as on_progress:
        summary = generate(config, on_progress)
    click.echo(summary_text(summary, "prompts", "images"))


@main.command("retry-failed")
@click.argument("output")
@overrides
@job
def retry_command(output: str, overrides: tuple[str, ...]) -> None:
    """Run the failed rows of the job in OUTPUT again, with its model and settings."""
    connect()
    with show_progress("prompts", "images") as on_progress:
        summary = retry_failed(output, overrides, on_progress)
    click.echo(summary_text(summary, "prompts", "images"))


@main.command("verify")
@click.argument("output")
@job
def verify_command(output: str) -> None:
    """Recount and rehash the job in OUTPUT: every object, row and id. Exits with 1 if anything is wrong."""
    report = verify(output)
    click.echo(str(report))
    if report.problems:
        sys.exit(FAILED)


@main.command("gc")
@click.argument("output")
@click.option("--delete", is_flag=True, help="Delete them; without it they are only listed.")
@click.option("--older-than", "age_h", default=24.0, show_default=True, help="Hours since they were written.")
@job
def gc_command(output: str, delete: bool, age_h: float) -> None:
    """List the objects in OUTPUT that no record names: what killed runs left behind."""
    found = (collect_garbage if delete else find_garbage)(output, age_h * 3600)
    for entry in found:
        click.echo(f"{entry.size_bytes:>12,}  {entry.path}")
    total = sum(entry.size_bytes for entry in found)
    click.echo(f"{len(found):,} objects, {total:,} bytes{' deleted' if delete else ''}")


def connect() -> None:
    """Join the cluster that RAY_ADDRESS names, or start Ray on this machine."""
    import ray  # 1 s to import: not for --help

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if "RAY_ADDRESS" not in os.environ:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options |= {"address": "local", "include_dashboard": False}
    ray.init(**options)


if __name__ == "__main__":
    main()

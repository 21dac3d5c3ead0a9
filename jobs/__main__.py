"""The command line: `python -m jobs NAME …`; `python -m jobs --help` lists the jobs.

A command imports what it needs when it runs: `--help` and `verify` need not wait for torch and Ray.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from jobs.ray_session import connect
from pipelines.config import load_config
from pipelines.errors import RefusalError

FAILED, INTERRUPTED = 1, 130

P = ParamSpec("P")
R = TypeVar("R")


@click.group(context_settings={"max_content_width": 110})
def main() -> None:
    """Meissonic on Ray: batch jobs around a masked-image-modelling text-to-image model."""


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Show refusals as one message, and say how to go on after Ctrl-C."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except RefusalError as error:
            click.secho(f"error: {error}", err=True, fg="red")
            sys.exit(FAILED)
        except KeyboardInterrupt:
            click.echo("\nstopped; what was done is kept. Run the same command again to go on.", err=True)
            sys.exit(INTERRUPTED)

    return run


overrides_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting; keys are dotted."
)


@main.command("generate")
@click.option("--config", "path", type=click.Path(dir_okay=False), help="YAML file with the job's settings.")
@overrides_option
@command
def generate_command(path: str | None, overrides: tuple[str, ...]) -> None:
    """Generate images for a prompt table. Started again, it goes on where it stopped."""
    from pipelines.generate import open_job
    from pipelines.generation_config import GenerateConfig
    from pipelines.progress import show_progress, summary_text

    job = open_job(load_config(GenerateConfig, path, overrides))
    connect()
    with show_progress("prompts", "images") as on_progress:
        summary = job.run(on_progress)
    click.echo(summary_text(summary, "prompts", "images"))


@main.command("retry-failed")
@click.argument("output")
@overrides_option
@command
def retry_command(output: str, overrides: tuple[str, ...]) -> None:
    """Run the failed rows of the job in OUTPUT again, with its model and settings."""
    from pipelines.generate import open_retry
    from pipelines.progress import show_progress, summary_text

    job = open_retry(output, overrides)
    connect()
    with show_progress("prompts", "images") as on_progress:
        summary = job.run(on_progress)
    click.echo(summary_text(summary, "prompts", "images"))


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
    """List the objects in OUTPUT that no record names: what killed runs left behind."""
    from pipelines.garbage import collect_garbage, find_garbage

    found = (collect_garbage if delete else find_garbage)(output, age_h * 3600)
    for entry in found:
        click.echo(f"{entry.size_bytes:>12,}  {entry.path}")
    total = sum(entry.size_bytes for entry in found)
    click.echo(f"{len(found):,} objects, {total:,} bytes{' deleted' if delete else ''}")


if __name__ == "__main__":
    main()

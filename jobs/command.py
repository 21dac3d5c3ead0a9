"""What all commands share."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

import click

from pipelines.errors import RefusalError, TransientError

if TYPE_CHECKING:
    from pipelines.tally import Progress, RunSummary

FAILED, INTERRUPTED = 1, 130
TRANSIENT = os.EX_TEMPFAIL
"""Another start may succeed: `jobs.supervise` makes one."""

P = ParamSpec("P")
R = TypeVar("R")


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Show refusals as one message, and say how to go on after Ctrl-C."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except RefusalError as error:
            click.secho(f"error: {error}", err=True, fg="red")
            sys.exit(TRANSIENT if isinstance(error, TransientError) else FAILED)
        except Exception as error:
            if not _is_of_ray(error):
                raise
            click.secho(f"error: Ray: {error}", err=True, fg="red")
            sys.exit(TRANSIENT)
        except KeyboardInterrupt:
            click.echo("\nstopped; what was done is kept. Run the same command again to go on.", err=True)
            sys.exit(INTERRUPTED)

    return run


def _is_of_ray(error: Exception) -> bool:
    """Whether Ray itself failed: the cluster is gone, or a node in a way that is not mended."""
    if "ray" not in sys.modules:
        return False
    from ray.exceptions import RayError, RayTaskError

    return isinstance(error, RayError) and not isinstance(error, RayTaskError)


class BulkJob(Protocol):
    """A job of units that is ready to run."""

    def run(self, on_progress: Callable[[Progress], None]) -> RunSummary:
        """Run all that is not done yet."""


def run_and_tell(job: BulkJob, label: str, results: str) -> None:
    """Run a job with its progress shown, print what became of it, write its report.

    Args:
        job: The job.
        label: What an input row is, as in `pipelines.progress`.
        results: What a result row is.
    """
    from pipelines.progress import show_progress, summary_text

    with show_progress(label, results) as on_progress:
        summary = job.run(on_progress)
    click.echo(summary_text(summary, label, results))
    tell_report(summary.output)


def tell_report(output: str) -> None:
    """Write the page of a job that has ended, and say where it is."""
    from pipelines.reports.writing import try_to_write_report

    if (uri := try_to_write_report(output)) is not None:
        click.echo(f"report: {uri}")


overrides_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting; keys are dotted."
)
config_option = click.option(
    "--config", "path", type=click.Path(dir_okay=False), help="YAML file with the job's settings."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")

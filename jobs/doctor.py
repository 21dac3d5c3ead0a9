"""The command `doctor`."""

from __future__ import annotations

import sys

import click

from jobs.command import FAILED, command, config_option, overrides_option
from jobs.ray_session import connect
from pipelines.cluster.known_jobs import MODELS, config_model
from pipelines.config import load_config

_NAME_CHARS = 16


@click.command("doctor")
@click.argument("job", type=click.Choice(list(MODELS)))
@config_option
@overrides_option
@command
def doctor_command(job: str, path: str | None, overrides: tuple[str, ...]) -> None:
    """Tell whether JOB will run on this cluster, and what to do if not. Exits with 1 if anything is wrong.

    Looks at versions, clocks, disks and storage of all nodes, weights, and room for the workers, and takes
    the first rows through every stage. Nothing is kept. `submit --doctor` runs it on a cluster.
    """
    from pipelines.cluster.doctor import examine

    config = load_config(config_model(job), path, overrides)
    connect()
    wrong = 0
    for check in examine(job, config):
        wrong += not check.is_ok
        mark = click.style("ok   ", fg="green") if check.is_ok else click.style("WRONG", fg="red", bold=True)
        click.echo(f"{mark} {check.name:{_NAME_CHARS}} {check.found}")
    click.echo("the job will run" if not wrong else f"{wrong} things to do before the job will run")
    if wrong:
        sys.exit(FAILED)

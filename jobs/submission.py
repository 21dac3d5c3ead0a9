"""The commands around Ray Jobs: `submit`, `list`, `stop` and `logs`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.command import INTERRUPTED, command, config_option, json_option, overrides_option
from pipelines.cluster.known_jobs import MODELS, config_model
from pipelines.config import load_config
from pipelines.errors import RefusalError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

    from pipelines.cluster.ray_jobs import RayJobs

CONFIG_FILE = "submitted.yaml"
"""What the job's configuration file is called in the copy of the code."""
RETRY = "retry-failed"
_SHOWN_FILES = 5

address_option = click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    default="http://127.0.0.1:8265",
    show_default=True,
    show_envvar=True,
    help="Of the cluster's dashboard.",
)


@click.command("submit")
@click.argument("job", type=click.Choice([*MODELS, RETRY]))
@click.argument("output", required=False)
@config_option
@overrides_option
@address_option
@click.option("--doctor", is_flag=True, help="Ask the cluster whether the job will run there, instead.")
@click.option("--pip", "with_pip", is_flag=True, help="Let each node install the pinned packages first.")
@click.option("--python", default="python", show_default=True, help="Interpreter on the nodes.")
@click.option("--env", "env", multiple=True, metavar="NAME[=VALUE]", help="Set it for all workers.")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Further runs where the driver's process dies.",
)
@click.option("--detach", is_flag=True, help="Do not wait for its end.")
@command
def submit_command(
    job: str,
    output: str | None,
    path: str | None,
    overrides: tuple[str, ...],
    address: str,
    doctor: bool,
    with_pip: bool,
    python: str,
    env: tuple[str, ...],
    retries: int,
    detach: bool,
) -> None:
    """Run JOB on a cluster, by Ray Jobs; exits as the job does. OUTPUT is for retry-failed alone.

    Submitted again, it follows the job that runs for the same output, or goes on where that one stopped.
    """
    from pipelines.cluster.ray_jobs import JobRequest, RayJobs
    from pipelines.cluster.source import ROOT, source_copy

    is_retry = job == RETRY
    if is_retry != (output is not None) or (is_retry and (path is not None or doctor)):
        raise click.UsageError(f"{RETRY} takes an OUTPUT and --set; the others --config and --set alone")
    arguments = [job, *([] if output is None else [output])]
    if path is not None:
        arguments += ["--config", CONFIG_FILE]
    for override in overrides:
        arguments += ["--set", override]
    module = ["-m", "jobs", "doctor"] if doctor else ["-m", "jobs.supervise", str(retries)]
    # what is wrong with the configuration is told here: by the cluster it would take longer
    values = {} if is_retry else load_config(config_model(job), path, overrides).model_dump()
    output = output or str(values["output"])
    _check_reachable(output)
    jobs = RayJobs(address)
    with source_copy() as source:
        _warn_of_changes(source.changed)
        _check_shipped(values.get("recipe"), source.folder)
        if path is not None:
            shutil.copyfile(path, source.folder / CONFIG_FILE)
        submitted = jobs.submit(
            JobRequest(
                job="doctor" if doctor else job,
                output=output,
                entrypoint=shlex.join([python, *module, *arguments]),
                source=source.folder,
                code_version=source.version,
                pip=tuple(_requirements(ROOT / "constraints.txt")) if with_pip else (),
                env=_environment(env),
            )
        )
    if not submitted.is_new:
        click.echo(f"{submitted.id}: is on the cluster already", err=True)
    else:
        again = f", {submitted.earlier} before it have ended" if submitted.earlier else ""
        click.echo(f"{submitted.id}: submitted{again}", err=True)
    if detach:
        click.echo(f"follow it: python -m jobs logs --follow {submitted.id} --address {address}", err=True)
        return
    _follow(jobs, submitted.id)


@click.command("list")
@address_option
@json_option
@command
def list_command(address: str, as_json: bool) -> None:
    """List the jobs of a cluster, the newest last."""
    from pipelines.cluster.ray_jobs import RayJobs

    found = RayJobs(address).jobs()
    if as_json:
        click.echo(json.dumps([_facts(job) for job in found]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "status", "started", "took", "output", "code", box=None, pad_edge=False)
    for job in found:
        facts = _facts(job)
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["started_at"]))
        table.add_row(
            facts["id"], facts["status"], started, facts["took"], facts["output"], facts["code_version"]
        )
    Console(width=None if sys.stdout.isatty() else 250, soft_wrap=True).print(table)


@click.command("stop")
@click.argument("submission_id")
@address_option
@command
def stop_command(submission_id: str, address: str) -> None:
    """Stop a job of a cluster; what it has done is kept, and submitted again it goes on."""
    from pipelines.cluster.ray_jobs import RayJobs

    was_running = RayJobs(address).stop(submission_id)
    click.echo(f"{submission_id}: {'stopped' if was_running else 'had ended before'}")


@click.command("logs")
@click.argument("submission_id")
@click.option("--follow", is_flag=True, help="Until the job ends; exits as it does.")
@address_option
@command
def logs_command(submission_id: str, follow: bool, address: str) -> None:
    """Print what a job of a cluster has printed."""
    from pipelines.cluster.ray_jobs import RayJobs

    jobs = RayJobs(address)
    if follow:
        _follow(jobs, submission_id)
    else:
        click.echo(jobs.logs(submission_id), nl=False)


def _follow(jobs: RayJobs, submission_id: str) -> None:
    try:
        code = jobs.follow(submission_id, lambda text: click.echo(text, nl=False))
    except KeyboardInterrupt:
        address = f"--address {jobs.address}"
        click.echo(
            f"\nno longer followed; the job goes on. python -m jobs logs --follow {submission_id} {address}"
            f"\nstop it: python -m jobs stop {submission_id} {address}",
            err=True,
        )
        sys.exit(INTERRUPTED)
    sys.exit(code)


def _check_reachable(output: str) -> None:
    """That an output is not in the temporary folder which a job runs in."""
    if "://" not in output and not Path(output).is_absolute():
        raise RefusalError(
            f"output '{output}' would be in a temporary folder of the cluster; name s3://…, or an absolute "
            "path that all nodes share"
        )


def _check_shipped(recipe: object, folder: Path) -> None:
    """That the file of curate's recipe, if it is one, goes along."""
    if isinstance(recipe, str) and (Path(recipe).is_absolute() or not (folder / recipe).is_file()):
        raise RefusalError(
            f"recipe '{recipe}' is not in the checkout; put it there, and name it from the root"
        )


def _warn_of_changes(files: tuple[str, ...]) -> None:
    if files:
        names = ", ".join(files[:_SHOWN_FILES])
        more = f" and {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
        click.secho(
            f"warning: not in the commit, and shipped as they are: {names}{more}", err=True, fg="yellow"
        )


def _requirements(constraints: Path) -> list[str]:
    return [line for line in constraints.read_text().splitlines() if line and not line.startswith("#")]


def _environment(settings: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE`, or `NAME` for the value that it has here."""
    found = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals and name not in os.environ:
            raise RefusalError(f"--env {name}: is not set here; write --env {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    return found


def _facts(job: JobDetails) -> dict[str, Any]:
    from pipelines.progress import duration

    metadata, started = job.metadata or {}, (job.start_time or 0) / 1000
    ended = job.end_time / 1000 if job.end_time else time.time()
    return {
        "id": job.submission_id,
        "status": job.status.value.lower(),
        "started_at": started,
        "took": duration(ended - started),
        "output": metadata.get("output", ""),
        "code_version": metadata.get("code_version", ""),
        "message": job.message,
    }

"""The command `package`."""

from __future__ import annotations

import click

from jobs.command import command, config_option, overrides_option, run_and_tell
from jobs.ray_session import connect
from pipelines.config import load_config


@click.command("package")
@config_option
@overrides_option
@command
def package_command(path: str | None, overrides: tuple[str, ...]) -> None:
    """Package what `generate` made for other programs: Hugging Face datasets, or WebDataset tars.

    Started again, it goes on where it stopped.
    """
    from pipelines.packaging import PackageConfig, plan_packaging
    from pipelines.packaging.upload import HubTarget, check_credentials

    config = load_config(PackageConfig, path, overrides)
    check_credentials(config)
    plan = plan_packaging(config)
    hub = HubTarget.prepare(config)
    shards = plan.shards
    click.echo(
        f"{config.input}: left out {shards.without_image:,} rows without an image and "
        f"{shards.not_chosen:,} by `where`"
    )
    connect()
    job = plan.open()
    run_and_tell(job, "images", "packaged")
    if hub is not None:
        url = hub.upload(job.ledger.storage, lambda sent: click.echo(f"uploaded: {sent}", err=True))
        click.echo(f"uploaded to {url}")


def retry_packaging(output: str, overrides: tuple[str, ...]) -> None:
    """Run the dead letters of a `package` job again."""
    from pipelines.packaging import open_packaging_retry

    job = open_packaging_retry(output, overrides)
    connect()
    run_and_tell(job, "images", "packaged")
    if job.plan.config.upload is not None:
        click.echo("not uploaded yet: run `package` again, as before")

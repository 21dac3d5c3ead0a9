"""The command `tokenize`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobs.command import command, config_option, overrides_option
from jobs.ray_session import connect
from pipelines.config import load_config

if TYPE_CHECKING:
    from pipelines.tokenization import TokenizationJob


@click.command("tokenize")
@config_option
@overrides_option
@command
def tokenize_command(path: str | None, overrides: tuple[str, ...]) -> None:
    """Encode the images of a training set as tokens, once. Started again, it goes on where it stopped."""
    from pipelines.tokenization import TokenizeConfig, plan_tokenization

    config = load_config(TokenizeConfig, path, overrides)
    connect()
    _run(plan_tokenization(config).open())


def retry_tokenization(output: str, overrides: tuple[str, ...]) -> None:
    """Run the dead letters of a `tokenize` job again."""
    from pipelines.tokenization import open_tokenization_retry

    connect()
    _run(open_tokenization_retry(output, overrides))


def _run(job: TokenizationJob) -> None:
    from pipelines.progress import show_progress, summary_text

    with show_progress("images", "crops") as on_progress:
        summary = job.run(on_progress)
    click.echo(summary_text(summary, "images", "crops"))

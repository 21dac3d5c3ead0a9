"""The command `tokenize`."""

from __future__ import annotations

import click

from jobs.command import command, config_option, overrides_option, run_and_tell
from jobs.ray_session import connect
from pipelines.config import load_config


@click.command("tokenize")
@config_option
@overrides_option
@command
def tokenize_command(path: str | None, overrides: tuple[str, ...]) -> None:
    """Encode the images of a training set as tokens, once. Started again, it goes on where it stopped."""
    from pipelines.tokenization import TokenizeConfig, plan_tokenization

    config = load_config(TokenizeConfig, path, overrides)
    connect()
    run_and_tell(plan_tokenization(config).open(), "images", "crops")


def retry_tokenization(output: str, overrides: tuple[str, ...]) -> None:
    """Run the dead letters of a `tokenize` job again."""
    from pipelines.tokenization import open_tokenization_retry

    connect()
    run_and_tell(open_tokenization_retry(output, overrides), "images", "crops")

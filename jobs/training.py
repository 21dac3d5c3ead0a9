"""The commands of training: `train` and `export`."""

from __future__ import annotations

import click

from jobs.command import command, config_option, overrides_option, tell_report
from jobs.ray_session import connect
from pipelines.config import load_config

DTYPES = ("float32", "float16", "bfloat16")


@click.command("export")
@click.argument("checkpoint")
@click.argument("folder")
@click.option(
    "--weights",
    type=click.Choice(["average", "raw"]),
    default="average",
    show_default=True,
    help="The averaged weights, or those of the last step.",
)
@click.option("--dtype", type=click.Choice(DTYPES), help="Of the weights.  [default: as they are]")
@command
def export_command(checkpoint: str, folder: str, weights: str, dtype: str | None) -> None:
    """Write the model in CHECKPOINT to FOLDER, in the layout that `generate` and other tools load.

    CHECKPOINT is the output of a `train` job (its last stage's newest checkpoint), its stages/NAME, or one
    stages/NAME/checkpoints/step-00001000.json.
    """
    import torch

    from pipelines.training.export import export_checkpoint

    exported = export_checkpoint(
        checkpoint,
        folder,
        "raw" if weights == "raw" else "average",
        None if dtype is None else getattr(torch, dtype),
    )
    click.echo(f"{exported.folder}: {weights} weights of {exported.checkpoint}\ndigest: {exported.digest}")


@click.command("train")
@config_option
@overrides_option
@command
def train_command(path: str | None, overrides: tuple[str, ...]) -> None:
    """Train a transformer on token stores. Started again, it goes on from the newest checkpoint."""
    from pipelines.training.progress import show_training
    from pipelines.training.settings import TrainConfig
    from pipelines.training.trainer import plan_training

    config = load_config(TrainConfig, path, overrides)
    training = plan_training(config)
    connect()
    with show_training() as on_progress:
        result = training.run(on_progress)
    click.echo(f"{result.checkpoint}: {result.num_steps:,} steps, {result.steps_run:,} of them by this run")
    tell_report(config.output)
    click.echo(f"next: python -m jobs export {config.output} FOLDER")

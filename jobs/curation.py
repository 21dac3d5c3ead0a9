"""The commands of curation: `score`, `curate` and `select`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from jobs.command import command, config_option, json_option, overrides_option, run_and_tell, tell_report
from jobs.ray_session import connect
from pipelines.config import load_config

PASSES = ("score", "dedup", "select", "export")


@click.command("score")
@config_option
@overrides_option
@command
def score_command(path: str | None, overrides: tuple[str, ...]) -> None:
    """Add scores to the images of a dataset. Started again, it goes on where it stopped."""
    from pipelines.curation.scoring import plan_scoring
    from pipelines.curation.settings import ScoreConfig

    config = load_config(ScoreConfig, path, overrides)
    connect()
    run_and_tell(plan_scoring(config).open(), "images", "scored")


def retry_scoring(output: str, overrides: tuple[str, ...]) -> None:
    """Run the dead letters of a `score` job again."""
    from pipelines.curation.scoring import open_scoring_retry

    connect()
    run_and_tell(open_scoring_retry(output, overrides), "images", "scored")


@click.command("curate")
@config_option
@overrides_option
@click.option(
    "--until", type=click.Choice(PASSES), default=PASSES[-1], show_default=True, help="The last pass to run."
)
@command
def curate_command(path: str | None, overrides: tuple[str, ...], until: str) -> None:
    """Make a training set of raw images: score them, find duplicates, select by a recipe, export.

    Started again, each pass goes on where it stopped.
    """
    from pipelines.curation.passes import Curation
    from pipelines.curation.settings import CurateConfig
    from pipelines.progress import show_progress, summary_text
    from pipelines.selection import funnel_text

    curation = Curation(load_config(CurateConfig, path, overrides))
    connect()
    with show_progress("images", "scored") as on_progress:
        summary = curation.score(on_progress)
    click.echo(summary_text(summary, "images", "scored"))
    if until != "score":
        found = curation.find_duplicates()
        pairs = ", ".join(f"{count:,} {kind}" for kind, count in found.pairs.items())
        click.echo(f"{found.output}: {pairs or 'no'} pairs of duplicates among {found.images:,} images")
    if until in ("select", "export"):
        click.echo(funnel_text(curation.select()))
    if until == "export":
        with show_progress("images", "written") as on_progress:
            exported = curation.export(on_progress)
        if exported is not None:
            click.echo(summary_text(exported, "images", "written", can_retry=False))
    tell_report(curation.config.output)


@click.command("select")
@click.argument("output")
@click.option("--recipe", type=click.Path(dir_okay=False), help="YAML file with the rules.")
@click.option("--name", help="Of the selection.  [default: the recipe's file name]")
@click.option("--duplicates", help="Folder of the pairs of duplicates.  [default: the only one there is]")
@click.option("--compare", nargs=2, metavar="A B", help="Show what two selections keep differently.")
@overrides_option
@json_option
@command
def select_command(
    output: str,
    recipe: str | None,
    name: str | None,
    duplicates: str | None,
    compare: tuple[str, str] | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Select again from what `curate` has scored in OUTPUT, by another recipe; takes seconds, and no Ray.

    `--set rules.0.min=512` changes the recipe.
    """
    from pipelines.curation.layout import selection_inputs, selection_uri
    from pipelines.reports.comparison import compare_selections
    from pipelines.selection import Recipe, funnel_text, select
    from pipelines.selection.compare import comparison_text

    if compare is not None:
        found, page = compare_selections(output, *compare)
        click.echo(json.dumps(found.to_json()) if as_json else f"{comparison_text(found)}\npage: {page}")
        return
    if recipe is None:
        raise click.UsageError("name a recipe with --recipe FILE, or two selections with --compare A B")
    rules = load_config(Recipe, recipe, overrides)
    scores_uri, duplicates_uri = selection_inputs(output, duplicates)
    funnel = select(scores_uri, duplicates_uri, rules, selection_uri(output, name or Path(recipe).stem))
    click.echo(json.dumps(funnel.to_json()) if as_json else funnel_text(funnel))

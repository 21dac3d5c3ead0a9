"""The card of a training set that was curated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.cards.card import CARD_PATH, Card, Contents, Section, read_contents, render
from pipelines.cards.markdown import as_yaml, code, table, text
from pipelines.curation.settings import CurateConfig
from pipelines.ledger import Ledger
from pipelines.selection import Funnel, read_funnel
from pipelines.storage import open_storage
from pipelines.tally import RunSummary

TAGS = ("image", "image-text-pairs")


@dataclass(frozen=True, kw_only=True)
class Selected:
    """What chose the images.

    Attributes:
        recipe: The rules, as JSON values.
        recipe_digest: SHA-256 of the selection's `recipe.json`, which is canonical JSON.
        funnel: What each rule took away.
    """

    recipe: Any
    recipe_digest: str
    funnel: Funnel


def read_selected(selection_uri: str) -> Selected:
    """What a selection that is done says of itself."""
    storage = open_storage(selection_uri)
    recipe = storage.read("recipe.json")
    return Selected(
        recipe=json.loads(recipe),
        recipe_digest=hashlib.sha256(recipe).hexdigest(),
        funnel=read_funnel(selection_uri),
    )


def write_card(
    ledger: Ledger, config: CurateConfig, weights: Mapping[str, str], selected: Selected, summary: RunSummary
) -> None:
    """Write `README.md` beside the training set's manifest; arguments as of `training_set_card`."""
    contents = read_contents(ledger.storage, summary.rows_out, config.score.scorers)
    card = training_set_card(config, weights, selected, summary, contents)
    ledger.storage.write(CARD_PATH, render(card).encode())


def training_set_card(
    config: CurateConfig,
    weights: Mapping[str, str],
    selected: Selected,
    summary: RunSummary,
    contents: Contents,
) -> Card:
    """What the card says.

    Args:
        config: With an export.
        weights: Digests of the scorers' weights, by name.
        selected: What chose the images.
        summary: How the export ended.
        contents: What is read from the dataset.
    """
    funnel = selected.funnel
    assert config.export is not None
    return Card(
        title=f"Training set {config.name}",
        about=(
            f"{summary.rows_out:,} images with captions, chosen from {funnel.rows:,} by a recipe. Of each "
            "there is its size before and after, its place in the source, and all its scores."
        ),
        settings=config.card,
        layout=config.export.format,
        shown=("key", "caption"),
        tags=TAGS,
        facts={
            "job": code("curate"),
            "recipe": text(config.name),
            "recipe digest": f"{code(selected.recipe_digest)}, the SHA-256 of its `recipe.json`",
            **{f"scorer {name}": code(digest) for name, digest in weights.items()},
            "code version": code(contents.code_version),
        },
        counts={
            "images in the source": funnel.rows,
            "that could not be read": sum(funnel.failed.values()),
            "that the recipe keeps": funnel.kept,
            "that could not be written": summary.rows_failed,
            "rows": summary.rows_out,
        },
        failures=summary.failures,
        contents=contents,
        sections=[
            Section(
                title="How it was selected", body=f"{_funnel_table(funnel)}\n\n{as_yaml(selected.recipe)}"
            ),
            Section(
                title="Settings",
                body=as_yaml(config.model_dump(mode="json", include={"score", "dedup", "export"})),
            ),
        ],
    )


def _funnel_table(funnel: Funnel) -> str:
    """What was dropped, and how many images were left."""
    rows = [(text(step.name), f"{step.dropped:,}", f"{step.kept:,}") for step in funnel.all_steps]
    return table(("rule", "dropped", "left"), rows)

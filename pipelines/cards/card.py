"""A dataset card: what every one of them has, and its text.

Nothing in it varies between runs: the same dataset has the same card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import yaml

from pipelines.cards import markdown
from pipelines.cards.loading import DATA_FILES, Layout, snippets
from pipelines.cards.schema_table import schema_table
from pipelines.cards.score_summary import ScoreSummary, score_summaries
from pipelines.cards.settings import CardSettings
from pipelines.inputs import find_parquet, schema_of
from pipelines.ledger import Ledger
from pipelines.scorers.settings import Scorers, scorer_fields
from pipelines.storage import Storage

CARD_PATH = "README.md"
_TEMPLATE = Path(__file__).with_name("card.md.j2")
_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is read from the dataset itself.

    Attributes:
        code_version: Of the program that began it.
        schema: Of its first shard; None where it has no rows.
        scores: Summaries of its scores.
    """

    code_version: str
    schema: pa.Schema | None = None
    scores: Sequence[ScoreSummary] = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a card that other cards do not have.

    Attributes:
        title: Its heading.
        body: Markdown.
    """

    title: str
    body: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card says.

    Attributes:
        title: What the dataset is, where its makers gave no name.
        about: The same in a sentence or two, Markdown.
        settings: What its makers say.
        layout: Where the images are.
        shown: Names of two or three columns that the loading snippets read.
        tags: For Hugging Face.
        facts: How it was made: names and values, Markdown.
        counts: What was counted, and how many.
        failures: Rows that failed, by "stage: error type".
        contents: What is read from the dataset itself.
        data_files: For Hugging Face, by configuration and split; empty for all that the layout has as one.
        sections: What only cards of this job have.
    """

    title: str
    about: str
    settings: CardSettings
    layout: Layout
    shown: tuple[str, ...]
    tags: tuple[str, ...]
    facts: dict[str, str]
    counts: dict[str, int]
    failures: dict[str, int]
    contents: Contents
    data_files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    sections: Sequence[Section] = ()

    @property
    def num_rows(self) -> int:
        """Rows of the dataset."""
        return self.counts["rows"]


def read_contents(storage: Storage, num_rows: int, scorers: Scorers) -> Contents:
    """What is read from a finished dataset for its card.

    Args:
        storage: The dataset.
        num_rows: Rows that it has.
        scorers: Those whose columns it has.

    Raises:
        StorageError: It cannot be read.
    """
    # run.json's own word: another version of the code may have gone on with the run
    code_version = Ledger.load(storage.uri).spec.code_version
    if not num_rows:
        return Contents(code_version=code_version)
    found = find_parquet(storage.uri)
    scores = [f.name for f in scorer_fields(scorers) if pa.types.is_floating(f.type)]
    return Contents(code_version=code_version, schema=schema_of(found), scores=score_summaries(found, scores))


def render(card: Card) -> str:
    """The card's text."""
    # Markdown has its own escapes, which the filters are
    environment = jinja2.Environment(  # noqa: S701
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"text": markdown.text, "code": markdown.code, "number": _number}
    schema = card.contents.schema
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        card=card,
        front_matter=yaml.safe_dump(front_matter(card), sort_keys=False, allow_unicode=True),
        columns="" if schema is None else schema_table(schema),
        snippets=snippets(card.layout, card.shown),
    )


def front_matter(card: Card) -> dict[str, Any]:
    """The metadata that Hugging Face reads."""
    settings = card.settings
    facts: dict[str, Any] = {"pretty_name": settings.pretty_name or card.title}
    for name in ("license", "license_name", "license_link"):
        if (value := getattr(settings, name)) is not None:
            facts[name] = value
    if settings.language:
        facts["language"] = list(settings.language)
    facts["task_categories"] = ["text-to-image"]
    facts["size_categories"] = [size_category(card.num_rows)]
    facts["tags"] = list(dict.fromkeys([*card.tags, *settings.tags]))
    if card.num_rows:
        default = {"default": {"train": DATA_FILES[card.layout]}}
        facts["configs"] = [
            {
                "config_name": name,
                "data_files": [{"split": split, "path": path} for split, path in files.items()],
            }
            for name, files in (card.data_files or default).items()
        ]
    return facts


def size_category(num_rows: int) -> str:
    """Hugging Face's name of the order of magnitude."""
    limits = [1000 * 10**power for power in range(len(_SIZES))]
    place = sum(num_rows >= limit for limit in limits)
    if place == 0:
        return f"n<{_SIZES[0]}"
    return f"n>{_SIZES[-1]}" if place == len(_SIZES) else f"{_SIZES[place - 1]}<n<{_SIZES[place]}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"

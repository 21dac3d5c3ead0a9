"""The card of a dataset of scores."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.cards.card import CARD_PATH, Card, Section, read_contents, render
from pipelines.cards.markdown import as_yaml, code
from pipelines.config import identity
from pipelines.curation.settings import ScoreConfig
from pipelines.ledger import Ledger
from pipelines.tally import RunSummary

TAGS = ("scores", "data-curation")


def write_card(ledger: Ledger, config: ScoreConfig, weights: Mapping[str, str], summary: RunSummary) -> None:
    """Write `README.md` beside the manifest.

    Args:
        ledger: The finished run.
        config: Of the job.
        weights: Digests of the scorers' weights, by name.
        summary: How it ended.
    """
    contents = read_contents(ledger.storage, summary.rows_out, config.scorers)
    card = Card(
        title="Scores of images",
        about=(
            f"Size, hashes and scores of {summary.rows_out:,} images of {summary.rows:,} that were seen. "
            "A score never drops a row: those that are missing could not be read, and `failed/` says why."
        ),
        settings=config.card,
        layout="table" if config.keep == "none" else "parquet",
        shown=("row_id", "caption"),
        tags=TAGS,
        facts={
            "job": code("score"),
            **{f"scorer {name}": code(digest) for name, digest in weights.items()},
            "code version": code(contents.code_version),
        },
        counts={
            "images seen": summary.rows,
            "that could not be read": summary.rows_failed,
            "rows": summary.rows_out,
        },
        failures=summary.failures,
        contents=contents,
        sections=[Section(title="Settings", body=as_yaml(identity(config)))],
    )
    ledger.storage.write(CARD_PATH, render(card).encode())

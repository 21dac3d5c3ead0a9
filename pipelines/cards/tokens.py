"""The card of a token store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.cards.card import CARD_PATH, Card, Section, read_contents, render
from pipelines.cards.markdown import as_yaml, code
from pipelines.config import identity
from pipelines.ledger import Ledger
from pipelines.manifest import read_entries
from pipelines.storage import Storage
from pipelines.tally import RunSummary
from schemas.tokens import parse_shard_path

if TYPE_CHECKING:  # these import torch, which writing a card does not need
    from pipelines.tokenization.settings import TokenizeConfig
    from pipelines.tokenization.vq import VQFacts

TAGS = ("image", "tokens", "masked-image-modelling")


def write_card(ledger: Ledger, config: TokenizeConfig, vq: VQFacts, summary: RunSummary) -> None:
    """Write `README.md` beside the manifest.

    Args:
        ledger: The finished run.
        config: Of the job.
        vq: What its tokens mean.
        summary: How it ended.
    """
    contents = read_contents(ledger.storage, summary.rows_out, ())
    card = Card(
        title="Tokens of images",
        about=(
            f"VQ codes of {summary.rows_out:,} crops of {summary.rows_done:,} images, with captions and "
            "micro-conditions. Each shard has grids of one size, which its name says; those of held-out "
            "images are apart."
        ),
        settings=config.card,
        layout="table",
        shown=("caption", "score"),
        tags=TAGS,
        facts={
            "job": code("tokenize"),
            "VQ model digest": code(vq.digest),
            "codes": f"{vq.codebook_size:,}",
            "pixels a token": f"{vq.factor} x {vq.factor}",
            "code version": code(contents.code_version),
        },
        counts={
            "images in the source": summary.rows,
            "images that failed": summary.rows_failed,
            "rows": summary.rows_out,
        },
        failures=summary.failures,
        contents=contents,
        data_files=_data_files(ledger.storage),
        sections=[Section(title="Settings", body=as_yaml(identity(config)))],
    )
    ledger.storage.write(CARD_PATH, render(card).encode())


def _data_files(storage: Storage) -> dict[str, dict[str, str]]:
    """For each size of grids its files: those for training, and those that are held out."""
    found: dict[str, dict[str, str]] = {}
    kinds = {parse_shard_path(entry.path) for entry in read_entries(storage)}
    for (height, width), validation in sorted(kind for kind in kinds if kind is not None):
        name = f"{height}x{width}"
        files = f"data/*.{name}{'.validation' if validation else ''}.parquet"
        found.setdefault(name, {})["validation" if validation else "train"] = files
    return found

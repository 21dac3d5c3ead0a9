"""The scorers that have no weights; importing them needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.scorers.interface import Scorer
from pipelines.scorers.phash import PHash
from pipelines.scorers.quality import Quality
from pipelines.scorers.settings import PHashSettings, QualitySettings, ScorerSettings


def plain_scorers(settings: Sequence[ScorerSettings]) -> list[Scorer]:
    """Those of the scorers that have no weights, in order."""
    scorers: list[Scorer] = []
    for one in settings:
        if isinstance(one, PHashSettings):
            scorers.append(PHash(one.name))
        elif isinstance(one, QualitySettings):
            scorers.append(Quality())
    return scorers

"""Best of n: which of a prompt's images are worth keeping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
from pydantic import PositiveInt

from pipelines.config import Config

Losers = Literal["drop", "keep", "tokens"]


class BestOf(Config):
    """Ranks the images of each prompt by a score; the best ones are kept.

    Attributes:
        keep: Images a prompt. Where it has no more than these, all are kept.
        rank_by: The score's column.
        best: Whether its highest or its lowest values are.
        losers: What becomes of the others: `drop` leaves them out, `keep` keeps them, marked as not kept, and
            `tokens` keeps their rows without an image: their tokens make it again.
    """

    keep: PositiveInt = 1
    rank_by: str
    best: Literal["highest", "lowest"] = "highest"
    losers: Losers = "drop"

    def ranked(self, scores: Sequence[float | None]) -> list[int]:
        """Indices of a prompt's images, in the order of their sample indices, the best first.

        Equal scores stay in this order; images whose score is null or not a number come last.
        """
        sign = -1 if self.best == "highest" else 1

        def rank(index: int) -> tuple[bool, float]:
            score = scores[index]
            return (True, 0.0) if score is None or math.isnan(score) else (False, sign * score)

        return sorted(range(len(scores)), key=rank)


def check_best_of(best_of: BestOf, scores: Sequence[pa.Field], tokens: bool) -> None:
    """Check it against the rest of a job's configuration.

    Args:
        best_of: To be checked.
        scores: The columns of the job's scorers.
        tokens: Whether the job keeps tokens.

    Raises:
        ValueError: `rank_by` is no column of numbers among the scores, or losers' tokens are not kept.
    """
    numbers = [f.name for f in scores if pa.types.is_floating(f.type) or pa.types.is_integer(f.type)]
    if best_of.rank_by not in numbers:
        remedy = f"the scorers' columns are {', '.join(numbers)}" if numbers else "add one to `scorers`"
        raise ValueError(f"no score '{best_of.rank_by}' to rank by; {remedy}")
    if best_of.losers == "tokens" and not tokens:
        raise ValueError("`losers: tokens` keeps tokens, but `tokens` is false; set it to true")

"""The quality score that a prompt row asks for, and the micro-condition that it becomes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from meissonic.config import ScoreCondition
from meissonic.requests import DEFAULT_SCORE


@dataclass(frozen=True, kw_only=True)
class AskedScore:
    """How a job asks a model for quality.

    Attributes:
        default: For rows that name no score; None for the model's own.
        mapping: The model's, from scores to micro-conditions; None where a score is that itself.
    """

    default: float | None
    mapping: ScoreCondition | None

    def of(self, row: dict[str, Any]) -> float:
        """The score that a row asks for.

        Raises:
            ValueError: It is not finite.
        """
        score = self._own if row["score"] is None else row["score"]
        if not math.isfinite(score):
            raise ValueError(f"score is {score}; it must be a finite number")
        return score

    def condition(self, score: float) -> float:
        """The fifth micro-condition."""
        return score if self.mapping is None else self.mapping.condition(score)

    def is_told(self, score: float) -> bool:
        """Whether a sample's id depends on it.

        It does not where the released pipeline would ask the same: so the samples of a model without a
        mapping have one id, whether that score is asked for or none.
        """
        return self.mapping is not None or score != DEFAULT_SCORE

    @property
    def _own(self) -> float:
        if self.default is not None:
            return self.default
        return DEFAULT_SCORE if self.mapping is None else self.mapping.default

"""Recipes: rules that are applied in order, each to what the ones before it have left.

rules:
  - {rule: range, column: min_side, min: 256}
  - {rule: expression, where: "clip_vit_l_14 > 0.2 AND caption NOT LIKE '%stock photo%'"}
  - {rule: duplicates, keep: aesthetic_laion_v2}
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, field_validator, model_validator

from pipelines.config import Config

Column = Annotated[str, Field(min_length=1)]
Kind = Literal["exact", "near", "semantic"]


class _Rule(Config):
    """What all rules have.

    Attributes:
        name: In decisions and in the funnel; null for a name made from the rule.
        missing: What becomes of images that have no value: null, or not a number.
    """

    name: str | None = None
    missing: Literal["drop", "keep"] = "drop"


class RangeRule(_Rule):
    """A column's value lies between two.

    Attributes:
        rule: `range`.
        column: The column.
        min: Least value that stays.
        max: Greatest value that stays.
    """

    rule: Literal["range"]
    column: Column
    min: FiniteFloat | None = None
    max: FiniteFloat | None = None

    @model_validator(mode="after")
    def _bounded(self) -> RangeRule:
        if self.min is None and self.max is None:
            raise ValueError("set min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}; no image would stay")
        return self

    @property
    def label(self) -> str:
        """The name it has without one."""
        return self.column


class PercentileRule(_Rule):
    """A column's value is among the highest, among the lowest, or between two percentiles. Ties stay.

    Attributes:
        rule: `percentile`.
        column: The column.
        top_percent: The part with the highest values that stays, in percent of what is left.
        bottom_percent: The part with the lowest values that stays.
        min_percentile: What lies below goes: 70 keeps what `top_percent: 30` does.
        max_percentile: What lies above goes: 70 keeps what `bottom_percent: 70` does.
        within: SQL expression: the percentiles are those of each of its groups.
    """

    rule: Literal["percentile"]
    column: Column
    top_percent: float | None = Field(default=None, gt=0, le=100)
    bottom_percent: float | None = Field(default=None, gt=0, le=100)
    min_percentile: float | None = Field(default=None, ge=0, lt=100)
    max_percentile: float | None = Field(default=None, gt=0, le=100)
    within: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_way(self) -> PercentileRule:
        between = self.min_percentile is not None or self.max_percentile is not None
        if (self.top_percent is not None) + (self.bottom_percent is not None) + between != 1:
            raise ValueError(
                "set one of top_percent, bottom_percent, and min_percentile with or without max_percentile"
            )
        return self

    @property
    def label(self) -> str:
        """The name it has without one."""
        return f"percentile {self.column}"


class ExpressionRule(_Rule):
    """A condition in SQL over any columns is true.

    Attributes:
        rule: `expression`.
        where: The condition, in DuckDB's SQL.
    """

    rule: Literal["expression"]
    where: str = Field(min_length=1)

    @property
    def label(self) -> str:
        """The name it has without one."""
        return self.where


class CaptionRule(_Rule):
    """Captions are of a certain length and form. Patterns are regular expressions of RE2.

    Attributes:
        rule: `caption`.
        column: Of the captions.
        min_words: Words at least.
        max_words: Words at most.
        min_characters: Characters at least.
        max_characters: Characters at most.
        pattern: Must be found in it.
        forbid: None of these patterns may be found in it, whatever the case of letters.
        max_repeats: A caption that more images have than this goes with all of them. To keep some, let a
            quota group by it.
    """

    rule: Literal["caption"]
    column: Column = "caption"
    min_words: NonNegativeInt | None = None
    max_words: NonNegativeInt | None = None
    min_characters: NonNegativeInt | None = None
    max_characters: NonNegativeInt | None = None
    pattern: str | None = None
    forbid: tuple[str, ...] = ()
    max_repeats: PositiveInt | None = None

    @property
    def label(self) -> str:
        """The name it has without one."""
        return self.column


class DuplicatesRule(_Rule):
    """Of duplicates the best stays: from the best down, each image stays unless it pairs with one that does.

    Attributes:
        rule: `duplicates`.
        kinds: Of those that were looked for.
        max_hamming: Bits in which near-duplicates differ at most; null for all pairs found.
        min_cosine: Of semantic duplicates at least; null for all pairs found.
        keep: Column by which images are ranked, those without a value last; null for the first in the input.
        keep_order: Whether its highest or its lowest value is best.
        against: Whether copies of images in other datasets go too, as far as they were looked for.
    """

    rule: Literal["duplicates"]
    kinds: tuple[Kind, ...] = ("exact", "near")
    max_hamming: NonNegativeInt | None = None
    min_cosine: float | None = None
    keep: Column | None = None
    keep_order: Literal["highest", "lowest"] = "highest"
    against: bool = True

    @property
    def label(self) -> str:
        """The name it has without one."""
        return "duplicates"


class QuotaRule(_Rule):
    """Of each group only so many images stay.

    Attributes:
        rule: `quota`.
        group_by: SQL expression: the group.
        max: Images a group.
        rank_by: Column whose highest values stay; null for the first in the input.
    """

    rule: Literal["quota"]
    group_by: str = Field(min_length=1)
    max: PositiveInt
    rank_by: Column | None = None

    @property
    def label(self) -> str:
        """The name it has without one."""
        return f"quota {self.group_by}"


class SampleRule(_Rule):
    """A part of the images stays, chosen by a hash of their uids: the same ones in every run.

    A smaller part with the same seed is a part of a larger one.

    Attributes:
        rule: `sample`.
        fraction: The part that stays, about.
        count: Images that stay, exactly.
        seed: Another one chooses others.
    """

    rule: Literal["sample"]
    fraction: float | None = Field(default=None, gt=0, le=1)
    count: NonNegativeInt | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _one_size(self) -> SampleRule:
        if (self.fraction is None) == (self.count is None):
            raise ValueError("set either fraction or count")
        return self

    @property
    def label(self) -> str:
        """The name it has without one."""
        return "sample"


Rule = Annotated[
    RangeRule | PercentileRule | ExpressionRule | CaptionRule | DuplicatesRule | QuotaRule | SampleRule,
    Field(discriminator="rule"),
]


class Recipe(Config):
    """What decides which images stay.

    Attributes:
        rules: Applied in order. An image is dropped by the first that it does not pass.
    """

    rules: tuple[Rule, ...]

    @field_validator("rules")
    @classmethod
    def _named_apart(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        names = [rule.name for rule in rules if rule.name is not None]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two rules are named '{repeated[0]}'; rename one")
        return rules

    def named_rules(self) -> list[tuple[str, Rule]]:
        """Each rule with a name of its own."""
        names: list[str] = [rule.name for rule in self.rules if rule.name is not None]
        named = []
        for rule in self.rules:
            name = rule.name
            if name is None:
                label = re.sub(r"\s+", " ", rule.label)
                name = label
                number = 2
                while name in names:
                    name, number = f"{label} {number}", number + 1
                names.append(name)
            named.append((name, rule))
        return named

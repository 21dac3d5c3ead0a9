"""Rules as SQL over the table `images`: each notes, for what it drops, the value and what was demanded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import duckdb

from pipelines.private_database import ORDINAL, quoted
from pipelines.selection.expressions import RecipeError
from pipelines.selection.images_table import DECISION
from pipelines.selection.recipe import (
    CaptionRule,
    ExpressionRule,
    PercentileRule,
    QuotaRule,
    RangeRule,
    SampleRule,
)

LEFT = f'"{DECISION}" IS NULL'
"""Of images that no rule has dropped."""
_HASH_HEX = 12


@dataclass(frozen=True, kw_only=True)
class Test:
    """What a rule asks of each image, in SQL.

    Attributes:
        passes: Whether it stays; null where a value is missing.
        value: What the rule looks at, as text.
        threshold: What it demands, as text.
    """

    passes: str
    value: str
    threshold: str


SqlRule = RangeRule | PercentileRule | ExpressionRule | CaptionRule | QuotaRule | SampleRule


def tests_of(rule: SqlRule, seen: Sequence[str]) -> list[Test]:
    """The tests that a rule makes, in order; `seen` are the columns that its expression mentions."""
    if isinstance(rule, RangeRule):
        return [_range(rule)]
    if isinstance(rule, PercentileRule):
        return [_percentile(rule)]
    if isinstance(rule, ExpressionRule):
        shown = " || ', ' || ".join(f"'{name} = ' || {_text(quoted(name))}" for name in seen) or "'false'"
        return [Test(passes=f"CAST(({rule.where}) AS BOOLEAN)", value=shown, threshold=literal(rule.where))]
    if isinstance(rule, CaptionRule):
        return _caption(rule)
    if isinstance(rule, QuotaRule):
        return [_quota(rule)]
    return [_sample(rule)]


def apply_test(connection: duckdb.DuckDBPyConnection, name: str, test: Test, keeps_missing: bool) -> int:
    """Drop what does not pass; gives how many of those had no value."""
    stays = f"coalesce(passes, {'true' if keeps_missing else 'false'})"
    connection.execute(
        f'CREATE TEMP TABLE tested AS SELECT * FROM (SELECT "{ORDINAL}" AS ordinal, {test.passes} AS passes, '
        f"{test.value} AS value, {test.threshold} AS threshold FROM images WHERE {LEFT}) WHERE NOT {stays}"
    )
    missing = int(connection.execute("SELECT count(*) FROM tested WHERE passes IS NULL").fetchall()[0][0])
    connection.execute(
        f"UPDATE images SET \"{DECISION}\" = {literal(name)}, __value = coalesce(tested.value, 'null'), "
        f'__threshold = tested.threshold FROM tested WHERE images."{ORDINAL}" = ordinal'
    )
    connection.execute("DROP TABLE tested")
    return missing


def check_expression(
    connection: duckdb.DuckDBPyConnection, name: str, expression: str, columns: Sequence[str]
) -> None:
    """That the types of an expression's parts go together; `columns` are those of the scores.

    Raises:
        RecipeError: They do not; the message has the database's own.
    """
    try:
        connection.execute(f'SELECT "{ORDINAL}", ({expression}\n) FROM images LIMIT 0')
    except duckdb.Error as error:
        raise RecipeError(
            f"rule '{name}': '{expression}': {error}; columns are {', '.join(columns)}"
        ) from error


def expressions_of(rule: object) -> list[str]:
    """The SQL that a rule's author wrote."""
    if isinstance(rule, ExpressionRule):
        return [rule.where]
    if isinstance(rule, QuotaRule):
        return [rule.group_by]
    return [rule.within] if isinstance(rule, PercentileRule) and rule.within else []


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def _text(value: str) -> str:
    return f"coalesce(CAST({value} AS VARCHAR), 'null')"


def _number(value: float) -> str:
    """A number in plain digits: as a decimal it is compared in the column's own precision."""
    return format(Decimal(repr(value)).normalize(), "f")


def _range(rule: RangeRule) -> Test:
    value = quoted(rule.column)
    bounds = [(">=", rule.min), ("<=", rule.max)]
    tests = [f"{sign} {_number(bound)}" for sign, bound in bounds if bound is not None]
    return Test(
        passes=" AND ".join(f"{value} {test}" for test in tests),
        value=_text(value),
        threshold=literal(" and ".join(tests)),
    )


def _percentile(rule: PercentileRule) -> Test:
    value = f"CAST({quoted(rule.column)} AS DOUBLE)"
    window = f"OVER ({f'PARTITION BY ({rule.within})' if rule.within else ''})"
    tests = []
    for percent, words, part in (
        (rule.top_percent, "top {} %", rule.top_percent),
        (rule.min_percentile, "percentile {}", 100 - (rule.min_percentile or 0)),
    ):
        if percent is not None and part is not None:
            edge = f"-quantile_disc(-{value}, {_number(part / 100)}) {window}"
            tests.append((">=", edge, words.format(_number(percent))))
    for percent, words in ((rule.bottom_percent, "bottom {} %"), (rule.max_percentile, "percentile {}")):
        if percent is not None:
            edge = f"quantile_disc({value}, {_number(percent / 100)}) {window}"
            tests.append(("<=", edge, words.format(_number(percent))))
    passes = " AND ".join(f"{value} {sign} {edge}" for sign, edge, _ in tests)
    if rule.within:
        passes = f"CASE WHEN ({rule.within}) IS NOT NULL THEN {passes} END"
    return Test(
        passes=passes,
        value=_text(value),
        threshold=" || ' and ' || ".join(
            f"'{sign} ' || {_text(edge)} || ' ({words})'" for sign, edge, words in tests
        ),
    )


def _caption(rule: CaptionRule) -> list[Test]:
    text = quoted(rule.column)
    words = f"len(string_split_regex(trim({text}), '\\s+'))"
    words = f"(CASE WHEN trim({text}) = '' THEN 0 ELSE {words} END)"
    length = f"length({text})"
    tests = [
        Test(
            passes=f"{measure} {sign} {bound}",
            value=f"{measure} || ' {unit}'",
            threshold=f"'{sign} {bound}'",
        )
        for measure, sign, bound, unit in (
            (words, ">=", rule.min_words, "words"),
            (words, "<=", rule.max_words, "words"),
            (length, ">=", rule.min_characters, "characters"),
            (length, "<=", rule.max_characters, "characters"),
        )
        if bound is not None
    ]
    if rule.pattern is not None:
        found = f"regexp_matches({text}, {literal(rule.pattern)})"
        tests.append(Test(passes=found, value=text, threshold=literal(f"matches {rule.pattern}")))
    for pattern in rule.forbid:
        found = f"regexp_matches({text}, {literal(pattern)}, 'i')"
        tests.append(Test(passes=f"NOT {found}", value=text, threshold=literal(f"without {pattern}")))
    if rule.max_repeats is not None:
        images = f"CASE WHEN {text} IS NOT NULL THEN count(*) OVER (PARTITION BY {text}) END"
        tests.append(
            Test(
                passes=f"{images} <= {rule.max_repeats}",
                value=f"{images} || ' images with this caption'",
                threshold=f"'<= {rule.max_repeats}'",
            )
        )
    return tests


def _quota(rule: QuotaRule) -> Test:
    ranked = f"{quoted(rule.rank_by)} DESC NULLS LAST, " if rule.rank_by else ""
    group = f"({rule.group_by})"
    number = f'row_number() OVER (PARTITION BY {group} ORDER BY {ranked}"{ORDINAL}")'
    return Test(
        passes=f"CASE WHEN {group} IS NULL THEN NULL ELSE {number} <= {rule.max} END",
        value=f"{number} || '. of ' || CAST({group} AS VARCHAR)",
        threshold=f"'<= {rule.max}'",
    )


def _sample(rule: SampleRule) -> Test:
    number = f"('0x' || substr(md5(uid || '{rule.seed}'), 1, {_HASH_HEX}))::BIGINT"
    if rule.count is not None:
        place = f'row_number() OVER (ORDER BY {number}, uid, "{ORDINAL}")'
        return Test(
            passes=f"{place} <= {rule.count}", value=f"{place} || '. by hash'", threshold=f"'<= {rule.count}'"
        )
    assert rule.fraction is not None
    number = f"{number} / {16.0**_HASH_HEX}"
    return Test(
        passes=f"{number} < {_number(rule.fraction)}",
        value=_text(number),
        threshold=f"'< {_number(rule.fraction)}'",
    )

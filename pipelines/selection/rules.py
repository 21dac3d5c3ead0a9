"""Rules as SQL over the table `images`: each notes, for what it drops, the value and what was demanded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from pipelines.selection.images_table import DECISION, ORDINAL, RecipeError
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
    number = f"('0x' || substr(md5(uid || '{rule.seed}'), 1, {_HASH_HEX}))::BIGINT / {16.0**_HASH_HEX}"
    return [Test(passes=f"{number} < {rule.fraction}", value=_text(number), threshold=f"'< {rule.fraction}'")]


def apply_test(connection: duckdb.DuckDBPyConnection, name: str, test: Test, keeps_missing: bool) -> int:
    """Drop what does not pass; gives how many of those had no value."""
    stays = f"coalesce(passes, {'true' if keeps_missing else 'false'})"
    update = (
        f'WITH tested AS (SELECT "{ORDINAL}" AS ordinal, {test.passes} AS passes, {test.value} AS value, '
        f"{test.threshold} AS threshold FROM images WHERE {LEFT}) "
        f"UPDATE images SET \"{DECISION}\" = {literal(name)}, __value = coalesce(tested.value, 'null'), "
        f'__threshold = tested.threshold FROM tested WHERE images."{ORDINAL}" = ordinal AND NOT {stays}'
    )
    counted = (
        f"SELECT count(*) FROM (SELECT {test.passes} AS passes FROM images WHERE {LEFT}) WHERE passes IS NULL"
    )
    missing = 0 if keeps_missing else int(connection.execute(counted).fetchall()[0][0])
    connection.execute(update)
    return missing


def check_expression(connection: duckdb.DuckDBPyConnection, name: str, expression: str) -> None:
    """That it is a single expression over the table's columns.

    Raises:
        RecipeError: It is not; the message has the database's own.
    """
    query = f"SELECT ({expression}\n) FROM images LIMIT 0"
    try:
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise RecipeError(
                f"rule '{name}': '{expression}' is not one SQL expression; write a condition only"
            )
        connection.execute(query)
    except duckdb.Error as error:
        raise RecipeError(f"rule '{name}': '{expression}': {error}") from error


def expressions_of(rule: object) -> list[str]:
    """The SQL that a rule's author wrote."""
    if isinstance(rule, ExpressionRule):
        return [rule.where]
    if isinstance(rule, QuotaRule):
        return [rule.group_by]
    return [rule.within] if isinstance(rule, PercentileRule) and rule.within else []


def quoted(column: str) -> str:
    """A column's name in SQL."""
    return '"' + column.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def _text(value: str) -> str:
    return f"coalesce(CAST({value} AS VARCHAR), 'null')"


def _range(rule: RangeRule) -> Test:
    value = quoted(rule.column)
    bounds = [(sign, bound) for sign, bound in ((">=", rule.min), ("<=", rule.max)) if bound is not None]
    return Test(
        passes=" AND ".join(f"{value} {sign} {bound}" for sign, bound in bounds),
        value=_text(value),
        threshold=literal(" and ".join(f"{sign} {bound:g}" for sign, bound in bounds)),
    )


def _percentile(rule: PercentileRule) -> Test:
    value = f"CAST({quoted(rule.column)} AS DOUBLE)"
    window = f"OVER ({f'PARTITION BY ({rule.within})' if rule.within else ''})"
    if rule.top_percent is not None:
        sign, words = ">=", f"top {rule.top_percent:g} %"
        edge = f"-quantile_disc(-{value}, {rule.top_percent / 100}) {window}"
    else:
        assert rule.bottom_percent is not None
        sign, words = "<=", f"bottom {rule.bottom_percent:g} %"
        edge = f"quantile_disc({value}, {rule.bottom_percent / 100}) {window}"
    return Test(
        passes=f"{value} {sign} {edge}",
        value=_text(value),
        threshold=f"'{sign} ' || {_text(edge)} || {literal(f' ({words})')}",
    )


def _caption(rule: CaptionRule) -> list[Test]:
    text = quoted(rule.column)
    words = f"len(string_split_regex(trim({text}), '\\s+'))"
    words = f"CASE WHEN trim({text}) = '' THEN 0 ELSE {words} END"
    length = f"length({text})"
    tests = [
        Test(
            passes=f"{measure} {sign} {bound}",
            value=f"{_text(measure)} || ' {unit}'",
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
        number = f'row_number() OVER (PARTITION BY {text} ORDER BY "{ORDINAL}")'
        tests.append(
            Test(
                passes=f"CASE WHEN {text} IS NULL THEN NULL ELSE {number} <= {rule.max_repeats} END",
                value=f"{_text(number)} || '. of its caption'",
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
        value=f"{_text(number)} || '. of ' || {_text(group)}",
        threshold=f"'<= {rule.max}'",
    )

"""The selections of a curation output as a report needs them: recipe, funnel, decisions and thresholds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from pipelines.curation.layout import SELECTIONS, runs_in, selection_uri
from pipelines.inputs import ParquetInput, find_parquet
from pipelines.json_files import parse_json
from pipelines.manifest import read_manifest
from pipelines.pages.charts import Chart, Threshold, stacked_bars
from pipelines.reports.curation_tables import CHARACTERS, WORDS, decisions_of
from pipelines.selection import Funnel, read_funnel
from pipelines.selection.funnel import FAULT
from pipelines.selection.rules import literal
from pipelines.storage import Storage, open_storage

DEFAULT = "default"
_EDGE = re.compile(r"(>=|<=) ([-+.\deE]+) \(")
"""Of a percentile, in what a decision says was demanded."""
_LENGTHS = {
    "min_words": (WORDS, "min"),
    "max_words": (WORDS, "max"),
    "min_characters": (CHARACTERS, "min"),
    "max_characters": (CHARACTERS, "max"),
}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A selection that is done.

    Attributes:
        name: Of the selection.
        funnel: What each rule took away.
        rules: Of each rule its name, and what the recipe says of it.
        decisions: The Parquet objects.
        request: Digests of what it was made from.
    """

    name: str
    funnel: Funnel
    rules: list[tuple[str, dict[str, Any]]]
    decisions: ParquetInput
    request: dict[str, Any]

    @property
    def columns(self) -> list[str]:
        """The columns whose values its rules compare, in order."""
        named = [
            rule[key] for _, rule in self.rules for key in ("column", "keep", "rank_by") if rule.get(key)
        ]
        return list(dict.fromkeys(name for name in named if isinstance(name, str)))


def read_selections(output: str) -> list[Selection]:
    """All selections that are done: `default` first, then the newest first."""
    done = runs_in(output, SELECTIONS)
    names = sorted(done, key=lambda name: (name != DEFAULT, -done[name], name))
    return [read_selection(output, name) for name in names]


def read_selection(output: str, name: str) -> Selection:
    """The selection of that name.

    Raises:
        StorageError: It is not there.
    """
    uri = selection_uri(output, name)
    storage = open_storage(uri)
    funnel = read_funnel(uri)
    # of an older program's recipe too, which might not pass today's checks
    rules = recipe_of(storage)["rules"]
    return Selection(
        name=name,
        funnel=funnel,
        rules=[(step.name, rule) for step, rule in zip(funnel.steps, rules, strict=True)],
        decisions=find_parquet(uri),
        request=read_manifest(storage)["request"],
    )


def recipe_of(selection: Storage) -> dict[str, Any]:
    """The recipe of a selection as JSON values."""
    return parse_json(selection.read("recipe.json"), selection.uri_of("recipe.json"))


def asked(rule: dict[str, Any]) -> str:
    """What a rule asks for, in the recipe's words."""
    said = {
        name: value
        for name, value in rule.items()
        if name not in ("name", "rule") and value not in (None, []) and (name, value) != ("missing", "drop")
    }
    parts = (f"{name}: {', '.join(v) if isinstance(v, list) else _short(v)}" for name, v in said.items())
    return f"{rule['rule']}; {'; '.join(parts)}" if said else str(rule["rule"])


def funnel_chart(selection: Selection) -> Chart:
    """What is left after each rule, and what it dropped."""
    bars = {"rows of the input": (selection.funnel.rows, 0)}
    for step in selection.funnel.all_steps:
        bars[_unlike(step.name, bars)] = (step.kept, step.dropped)
    return stacked_bars(title="What each rule left", label="images", parts=("kept", "dropped"), values=bars)


def funnel_rows(selection: Selection) -> list[tuple[Any, ...]]:
    """The funnel as a table: step, what it asks for, came, dropped, without a value, left, left of all."""
    rules = dict(selection.rules)
    return [
        (
            step.name,
            "a readable image" if step.rule == FAULT else asked(rules[step.name]),
            *step.counts,
            selection.funnel.share(step.kept),
        )
        for step in selection.funnel.all_steps
    ]


def thresholds(
    connection: duckdb.DuckDBPyConnection, number: int, selection: Selection
) -> dict[str, list[Threshold]]:
    """The values at which its rules decide, by column.

    Args:
        connection: With the selection's decisions.
        number: Of the selection.
        selection: The selection.
    """
    found: dict[str, list[Threshold]] = {}
    for name, rule in selection.rules:
        if rule["rule"] == "range":
            edges = [(rule["column"], end, rule[end]) for end in ("min", "max")]
        elif rule["rule"] == "caption" and rule["column"] == "caption":
            edges = [(column, end, rule[key]) for key, (column, end) in _LENGTHS.items()]
        elif rule["rule"] == "percentile" and not rule["within"]:
            edges = [(rule["column"], *edge) for edge in _percentile_edges(connection, number, name)]
        else:
            continue
        for column, end, value in edges:
            if value is not None:
                found.setdefault(column, []).append(Threshold(value=value, label=f"{end} {value:g}"))
    return found


def _percentile_edges(
    connection: duckdb.DuckDBPyConnection, number: int, name: str
) -> Sequence[tuple[str, float]]:
    """Where percentiles lie, by what was noted of an image that one dropped; nothing where none was."""
    row = connection.execute(
        f"SELECT threshold FROM {decisions_of(number)} WHERE rule = {literal(name)} "
        "AND threshold IS NOT NULL LIMIT 1"
    ).fetchone()
    ends = {">=": "min", "<=": "max"}
    return [(ends[sign], float(value)) for sign, value in _EDGE.findall(row[0])] if row else []


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unlike(name: str, taken: dict[str, Any]) -> str:
    """The name, or one like it that is free: bars of one name would lie upon each other."""
    return name if name not in taken else _unlike(f"{name} ", taken)

"""What a page asks of the rows: some of them in order, how many there are, and how their scores spread."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pipelines.private_database import quoted
from pipelines.viewing.columns import ROW, Column
from pipelines.viewing.relations import Relation
from pipelines.viewing.rows import OutputRows
from pipelines.viewing.view import View

NUM_BINS = 24
_DIGITS = 4
_MIDDLE = "[0.005, 0.995]"
_SAMPLED_ROWS = 100_000
MAX_CHOICES = 24
"""Different texts of a column up to which one chooses among them."""
_KEPT_ANSWERS = 256
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ColumnFacts:
    """What is known of a column's values in all rows.

    Attributes:
        low: The least number; None where there is none.
        high: The greatest.
        middle: Between which numbers all but one in a hundred are; None where it was not looked for.
        num_null: Rows without a value.
        choices: The texts, where there are few.
    """

    low: float | None
    high: float | None
    middle: tuple[float, float] | None
    num_null: int
    choices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How the values of a column spread.

    Attributes:
        column: Its name.
        edges: One more than counts. A bin has the values from its edge to less than the next one; the first
            has what is below, too, and the last what is above.
        counts: Rows in each bin.
    """

    column: str
    edges: list[float]
    counts: list[int]

    @property
    def labels(self) -> list[str]:
        """The edges with so many digits that those that differ can be told apart."""
        for digits in range(_DIGITS, 18):
            labels = [f"{edge:.{digits}g}" for edge in self.edges]
            if len(set(labels)) == len(set(self.edges)):
                break
        return labels


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is said of all rows of a view.

    Attributes:
        total: How many there are.
        histograms: Of some columns.
    """

    total: int
    histograms: list[Histogram]


class Answers:
    """Answers about the rows; those that a next page needs again are kept."""

    def __init__(self, rows: OutputRows) -> None:
        self._rows = rows
        self._lock = threading.Lock()
        self._kept: OrderedDict[Any, Any] = OrderedDict()

    def count(self, relation: Relation, view: View) -> int:
        """Rows that fit the view."""
        condition, values = relation.condition(view)
        sql = f"SELECT count(*) FROM {relation.name} AS images WHERE {condition}"
        key = ("count", relation.name, condition, *values)
        return self._once(key, lambda: self._query(sql, values)[0][0])

    def page(self, relation: Relation, view: View, offset: int, count: int) -> list[dict[str, Any]]:
        """Some rows of the view, in its order."""
        condition, values = relation.condition(view)
        found = self._query(
            f"SELECT {ROW} FROM {relation.name} AS images WHERE {condition} "
            f"ORDER BY {relation.order(view)} LIMIT ? OFFSET ?",
            [*values, count, offset],
        )
        return self.rows(relation, [row for (row,) in found])

    def rows(self, relation: Relation, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """The rows with these places in the index, in this order, with the places as ROW."""
        if not numbers:
            return []
        names = [ROW, *(column.name for column in relation.columns)]
        chosen = ", ".join(map(quoted, names))
        places = ", ".join(str(int(number)) for number in numbers)
        found = self._query(f"SELECT {chosen} FROM {relation.name} WHERE {ROW} IN ({places})", [])
        by_place = {row[0]: dict(zip(names, row, strict=True)) for row in found}
        return [by_place[number] for number in numbers if number in by_place]

    def with_id(self, relation: Relation, row_id: str) -> dict[str, Any] | None:
        """The row of that id; None where there is none."""
        sql = f"SELECT {ROW} FROM {relation.name} WHERE {quoted(relation.id)} = ? LIMIT 1"
        found = self._query(sql, [row_id])
        return self.rows(relation, [found[0][0]])[0] if found else None

    def position(self, relation: Relation, view: View, row: int) -> int | None:
        """Where a row stands in the order of the view, from 0; None where it is not in it."""
        condition, values = relation.condition(view)
        sql = (
            f"SELECT position FROM (SELECT {ROW} AS place, row_number() OVER "
            f"(ORDER BY {relation.order(view)}) - 1 AS position "
            f"FROM {relation.name} AS images WHERE {condition}) WHERE place = ?"
        )
        found = self._query(sql, [*values, row])
        return found[0][0] if found else None

    def facts(self, relation: Relation) -> dict[str, ColumnFacts]:
        """What is known of each column."""
        return self._once(("facts", relation.name), lambda: self._facts(relation))

    def summary(self, relation: Relation, view: View, columns: Sequence[Column]) -> Summary:
        """How many rows fit the view, and how some columns spread among them: one look at all rows."""
        condition, values = relation.condition(view)
        facts = self.facts(relation)
        ranges = {c.name: middle for c in columns if (middle := facts[c.name].middle) is not None}
        key = ("summary", relation.name, condition, *values, *ranges)
        return self._once(key, lambda: self._summary(relation, condition, values, ranges))

    def _summary(
        self,
        relation: Relation,
        condition: str,
        values: Sequence[Any],
        ranges: dict[str, tuple[float, float]],
    ) -> Summary:
        bins = [
            f"CAST(greatest(least(floor((CAST({quoted(name)} AS DOUBLE) - ?) / ? * {NUM_BINS}), "
            f"{NUM_BINS - 1}), 0) AS TINYINT) AS bin_{number}"
            for number, name in enumerate(ranges)
        ]
        names = [f"bin_{number}" for number in range(len(bins))]
        sets = ", ".join(["()", *(f"({name})" for name in names)])
        grouping = f"GROUPING({', '.join(names)})" if names else "0"
        found = self._query(
            f"SELECT {', '.join([*names, 'count(*)', grouping])} FROM (SELECT {', '.join(bins or ['1'])} "
            f"FROM {relation.name} AS images WHERE {condition}) GROUP BY GROUPING SETS ({sets})",
            [end for low, high in ranges.values() for end in (low, high - low)] + list(values),
        )
        total, counts = 0, [[0] * NUM_BINS for _ in names]
        for *places, count, grouped in found:
            # a bit for each that is not grouped by, the last is the lowest
            own = [n for n in range(len(names)) if not grouped >> (len(names) - 1 - n) & 1]
            if not own:
                total = count
            elif places[own[0]] is not None:
                counts[own[0]][places[own[0]]] += count
        histograms = [
            Histogram(
                column=name,
                edges=_edges(low, high),
                counts=counts[number],
            )
            for number, (name, (low, high)) in enumerate(ranges.items())
        ]
        return Summary(total=total, histograms=histograms)

    def _facts(self, relation: Relation) -> dict[str, ColumnFacts]:
        asked: list[str] = []
        for column in relation.columns:
            name = quoted(column.name)
            asked.append(f"count(*) - count({name})")
            if column.kind == "number":
                asked += [f"CAST(min({name}) AS DOUBLE)", f"CAST(max({name}) AS DOUBLE)"]
            else:
                asked += [f"approx_count_distinct({name})" if column.kind == "text" else "NULL", "NULL"]
        found = iter(self._own_query(f"SELECT {', '.join(asked)} FROM {relation.name}")[0])
        middles = self._middles(relation)
        facts: dict[str, ColumnFacts] = {}
        for column in relation.columns:
            num_null, one, other = next(found), next(found), next(found)
            is_few = column.kind == "text" and one <= MAX_CHOICES
            facts[column.name] = ColumnFacts(
                low=one if column.kind == "number" else None,
                high=other,
                middle=_range(middles.get(column.name), one, other),
                num_null=num_null,
                choices=self._choices(relation, column) if is_few else (),
            )
        return facts

    def _middles(self, relation: Relation) -> dict[str, Any]:
        """Quantiles of each column of numbers, among evenly spaced rows where there are many."""
        names = [column.name for column in relation.columns if column.kind == "number"]
        if not names:
            return {}
        asked = ", ".join(f"quantile_cont(CAST({quoted(name)} AS DOUBLE), {_MIDDLE})" for name in names)
        count = self._own_query(f"SELECT count(*) FROM {relation.name}")[0][0]
        stride = max(-(-count // _SAMPLED_ROWS), 1)
        found = self._own_query(f"SELECT {asked} FROM {relation.name} WHERE {ROW} % {stride} = 0")[0]
        return dict(zip(names, found, strict=True))

    def _choices(self, relation: Relation, column: Column) -> tuple[str, ...]:
        name = quoted(column.name)
        found = self._own_query(
            f"SELECT DISTINCT {name} FROM {relation.name} WHERE {name} <> '' ORDER BY 1 "
            f"LIMIT {2 * MAX_CHOICES}"
        )
        return tuple(text for (text,) in found)

    def _query(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        return self._rows.index.query(sql, values)

    def _own_query(self, sql: str) -> list[tuple[Any, ...]]:
        """What the server itself must know: it may take longer than what somebody asks."""
        return self._rows.index.query(sql, is_limited=False)

    def _once(self, key: Any, answer: Callable[[], T]) -> T:
        """An answer that holds until the rows change."""
        key = (self._rows.version, key)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = answer()
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > _KEPT_ANSWERS:
                self._kept.popitem(last=False)
        return found


def _edges(low: float, high: float) -> list[float]:
    """The edges of the bins, to the last bit: a bin's is the least number that the query counts in it."""

    def is_in(value: float, number: int) -> bool:
        return (value - low) / (high - low) * NUM_BINS >= number

    edges = [low]
    for number in range(1, NUM_BINS):
        outside, inside = low, high
        while outside < (between := outside + (inside - outside) / 2) < inside:
            outside, inside = (outside, between) if is_in(between, number) else (between, inside)
        edges.append(inside)
    return [*edges, high]


def _range(middle: Any, low: Any, high: Any) -> tuple[float, float] | None:
    """The numbers between which a histogram is drawn; all of them where most are the same."""
    for start, stop in (tuple(middle or (None, None)), (low, high)):
        if start is not None and stop is not None and 0 < stop - start < math.inf:
            return start, stop
    return None

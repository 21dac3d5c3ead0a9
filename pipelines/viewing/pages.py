"""What the pages of the viewer show: values for their templates."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.prompt_rows import prompt_row
from pipelines.scorers.settings import QualitySettings, scorer_fields
from pipelines.viewing.answers import Answers, ColumnFacts, Histogram
from pipelines.viewing.columns import ROW, Column
from pipelines.viewing.index import QueryError
from pipelines.viewing.relations import Relation
from pipelines.viewing.rows import DECIDED, OutputRows
from pipelines.viewing.view import PARTS, View
from schemas.generations import GENERATIONS
from schemas.images import IMAGE_FACTS

PAGE_ROWS = 48
MAX_HISTOGRAMS = 4
_TEXT_CHARACTERS = 300
_USUAL_SCORES = 2
_SHOWN_CHARACTERS = 20_000
_MADE_KNOWN = {*GENERATIONS.names, *IMAGE_FACTS.names}
"""Columns that say how an image was made or what it is, not how good it is."""
_PLAIN = {field.name for field in scorer_fields([QualitySettings(kind="quality")])}
"""Measures without a model: shown after the others."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A row in the gallery.

    Attributes:
        row: Its place in the index.
        url: Of its page.
        text: Its prompt or caption.
        values: Name and value of the columns that are shown.
        is_dropped: Whether the selection dropped it.
    """

    row: int
    url: str
    text: str
    values: list[tuple[str, str]]
    is_dropped: bool


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar of a histogram: a link to the rows in it.

    Attributes:
        url: Of those rows.
        height: Of 100.
        label: In words.
    """

    url: str
    height: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Field:
    """A column in the form of filters.

    Attributes:
        column: The column.
        facts: Of its values.
        values: What is set, by part.
        is_shown: Whether it stands below each image.
    """

    column: Column
    facts: ColumnFacts
    values: dict[str, str]
    is_shown: bool


class Pages:
    """Answers put in words."""

    def __init__(self, rows: OutputRows) -> None:
        self.rows, self.answers = rows, Answers(rows)

    def prepare(self) -> None:
        """Look at the ranges of all columns, so that the first page need not."""
        for relation in list(self.rows.relations.values()):
            self.answers.facts(relation)

    def frame(self, view: View) -> dict[str, Any]:
        """What every page has."""
        rows, units = self.rows, self.rows.units
        job = "curate" if rows.output.is_curation else rows.output.ledger.spec.job
        done = f"{units.num_done:,} of {units.num_units:,} units committed"
        state = "finished" if rows.is_finished else done
        read_at = time.strftime("%H:%M:%S", time.localtime(rows.refreshed_at))
        views = {"Images": View(selection=view.selection), "Dead letters": View(table="failed")}
        tables = [
            (self._label(label, other.table), other.query(), other.table == view.table)
            for label, other in views.items()
        ]
        return {
            "title": "/".join(rows.output.name.rstrip("/").split("/")[-2:]),
            "lead": f"{job}, {state}; read at {read_at}",
            "footer": rows.output.name,
            "tables": tables,
            "selections": self._selections(view),
            "refresh_url": f"refresh{view.query()}",
            "version": f"{rows.started}-{rows.version}",
            "view": view,
        }

    def gallery(self, view: View) -> dict[str, Any]:
        """A page of rows.

        Raises:
            QueryError: The view asks for something that there is not.
        """
        relation = self.rows.relation(view.table, view.selection)
        if relation is None:
            return self.frame(view) | {"relation": None, "error": "", "chips": []}
        measured = self._measured(relation, view) if view.table == "images" else []
        summary = self.answers.summary(relation, view, measured)
        total = summary.total
        pages = max(-(-total // PAGE_ROWS), 1)
        view = replace(view, page=min(view.page, pages))
        first = (view.page - 1) * PAGE_ROWS
        rows = self.answers.page(relation, view, first, PAGE_ROWS)
        shown = self._shown(relation, view)
        values: dict[str, Any] = {
            "relation": relation,
            "total": total,
            "first": first,
            "pages": pages,
            "links": page_links(view, pages),
            "chips": [(item.label, view.without(item).query()) for item in view.filters],
            "fields": self._fields(relation, view, shown),
            "num_filters": len(view.filters),
            "error": "",
        }
        if view.table == "failed":
            values["letters"] = [
                (
                    [text_of(row[column.name]) for column in relation.columns],
                    self._url(relation, view, row, first + n),
                )
                for n, row in enumerate(rows)
            ]
        else:
            values["tiles"] = [
                self._tile(relation, view, row, first + n, shown) for n, row in enumerate(rows)
            ]
            values["histograms"] = [(found, bars(view, found)) for found in summary.histograms]
        return self.frame(view) | values

    def refused(self, view: View, error: str) -> dict[str, Any]:
        """The form with what was wrong, and no rows."""
        try:
            relation = self.rows.relation(view.table, view.selection)
            fields = self._fields(relation, view, []) if relation else []
        except QueryError:
            relation, fields = None, []
        return self.frame(view) | {
            "relation": relation,
            "error": error,
            "fields": fields,
            "num_filters": len(view.filters),
            "chips": [(item.label, view.without(item).query()) for item in view.filters],
        }

    def row(self, view: View, row_id: str, at: int | None) -> dict[str, Any]:
        """A row with all its columns, and its neighbours in the view.

        Raises:
            QueryError: There is no such row.
        """
        relation = self.rows.relation(view.table, view.selection)
        row = None if relation is None else self.answers.with_id(relation, row_id)
        if relation is None or row is None:
            raise QueryError(f"no row with the id '{row_id[:80]}'")
        position, neighbours = self._neighbours(relation, view, row, at)
        page = 1 if position is None else position // PAGE_ROWS + 1
        back = replace(view, page=page).query()
        columns = [
            (column, text_of(row[column.name])[:_SHOWN_CHARACTERS])
            for column in self._interesting_first(relation, self.answers.facts(relation))
        ]
        return self.frame(view) | {
            "row": row[ROW],
            "row_id": row_id,
            "text": self._text(relation, row)[:_SHOWN_CHARACTERS],
            "columns": columns,
            "left_out": self.rows.left_out if view.table == "images" else {},
            "position": position,
            "total": self.answers.count(relation, view),
            "previous": neighbours[0],
            "next": neighbours[1],
            "back": f".{back}#r{row[ROW]}" if view.table == "images" else f".{back}",
            "prompt_row": prompt_row(row, is_generated=self.rows.output.ledger.spec.job == "generate")
            if view.table == "images"
            else "",
            "original": self._duplicate(relation, view, row),
        }

    def _label(self, label: str, table: str) -> str:
        relation = self.rows.relation(table)
        count = 0 if relation is None else self.answers.count(relation, View())
        return f"{label} {count:,}"

    def _selections(self, view: View) -> list[tuple[str, str, bool]]:
        names = self.rows.selections
        if not names or view.table == "failed":
            return []
        plain = View(text=view.text)
        return [
            (name or "none", replace(plain, selection=name).query(), view.selection == name)
            for name in ("", *names)
        ]

    def _shown(self, relation: Relation, view: View) -> list[Column]:
        """The columns below each image: those asked for, or the verdict and the first scores."""
        if view.columns:
            return [relation.column(name) for name in view.columns]
        decided = [c for c in relation.columns if c.is_decision and c.source in DECIDED[:2]]
        return [*decided, *self._scores(relation)[:_USUAL_SCORES]]

    def _measured(self, relation: Relation, view: View) -> list[Column]:
        """The columns with a histogram: numbers among those asked for, or scores."""
        asked = [relation.column(name) for name in view.columns]
        return ([c for c in asked if c.kind == "number"] or self._scores(relation))[:MAX_HISTOGRAMS]

    def _scores(self, relation: Relation) -> list[Column]:
        scores = [c for c in relation.columns if c.is_score and c.source not in _MADE_KNOWN]
        return sorted(scores, key=lambda column: column.source in _PLAIN)

    def _fields(self, relation: Relation, view: View, shown: Sequence[Column]) -> list[Field]:
        facts = self.answers.facts(relation)
        return [
            Field(
                column=column,
                facts=facts[column.name],
                values={part: view.value_of(f"{part}.{column.name}") for part in PARTS},
                is_shown=column in shown,
            )
            for column in self._interesting_first(relation, facts)
        ]

    def _interesting_first(self, relation: Relation, facts: dict[str, ColumnFacts]) -> list[Column]:
        """Decisions and scores, then what differs from row to row, then what does not."""

        def key(column: Column) -> tuple[bool, bool, bool]:
            known = facts[column.name]
            is_constant = len(known.choices) == 1 if column.kind == "text" else known.low == known.high
            is_dull = is_constant and column.kind != "boolean"
            return is_dull, not column.is_decision, column not in scores

        scores = self._scores(relation)
        return sorted(relation.columns, key=key)

    def _tile(
        self, relation: Relation, view: View, row: dict[str, Any], position: int, shown: Sequence[Column]
    ) -> Tile:
        kept = _decision(relation, "kept")
        return Tile(
            row=row[ROW],
            url=self._url(relation, view, row, position),
            text=self._text(relation, row)[:_TEXT_CHARACTERS],
            values=[
                (column.name, text_of(row[column.name], 4)[:_TEXT_CHARACTERS])
                for column in shown
                if row[column.name] is not None
            ],
            is_dropped=kept is not None and row[kept] is False,
        )

    def _text(self, relation: Relation, row: dict[str, Any]) -> str:
        return next((row[name] for name in relation.texts[:1] if row[name]), "")

    def _url(self, relation: Relation, view: View, row: dict[str, Any], position: int) -> str:
        plain = replace(view, page=1)
        return f"row{plain.query(('row', row[relation.id]), ('at', position))}"

    def _neighbours(
        self, relation: Relation, view: View, row: dict[str, Any], at: int | None
    ) -> tuple[int | None, tuple[str | None, str | None]]:
        """The row's position in the view, and the URLs of the rows before and after it."""
        start = max((at or 0) - 1, 0)
        around = self.answers.page(relation, view, start, 3) if at is not None else []
        places = [found[ROW] for found in around]
        position = start + places.index(row[ROW]) if row[ROW] in places else None
        if position is None or position != at:  # rows were added before it, or the link had no position
            position = self.answers.position(relation, view, row[ROW])
            if position is None:
                return None, (None, None)
            start = max(position - 1, 0)
            around = self.answers.page(relation, view, start, 3)
        urls = {start + n: self._url(relation, view, found, start + n) for n, found in enumerate(around)}
        return position, (urls.get(position - 1), urls.get(position + 1))

    def _duplicate(self, relation: Relation, view: View, row: dict[str, Any]) -> dict[str, Any] | None:
        """The image that stays in the place of this one."""
        name = _decision(relation, "duplicate_of")
        if name is None or row[name] is None:
            return None
        found = self.answers.with_id(relation, row[name])
        plain = View(selection=view.selection)
        return found and {
            "row": found[ROW],
            "text": self._text(relation, found),
            "id": row[name],
            "url": f"row{plain.query(('row', row[name]))}",
        }


def _decision(relation: Relation, source: str) -> str | None:
    """The name of a column of decisions; None where the table has none."""
    return next((c.name for c in relation.columns if c.is_decision and c.source == source), None)


def text_of(value: Any, digits: int = 6) -> str:
    """A value for people; of numbers that are not whole so many digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def page_links(view: View, pages: int) -> list[tuple[str, str]]:
    """Number and URL of the first page, the last one, and those around this one; gaps have no URL."""
    near = {1, pages, *range(max(view.page - 1, 1), min(view.page + 1, pages) + 1)}
    links: list[tuple[str, str]] = []
    before = 0
    for number in sorted(near):
        if number > before + 1:
            links.append(("…", ""))
        links.append((f"{number:,}", replace(view, page=number).query()))
        before = number
    return links


def bars(view: View, histogram: Histogram) -> list[Bar]:
    """The bars of a histogram, the highest of height 100; one with rows can be seen."""
    most = max(histogram.counts) or 1
    # the first and the last have what is below and above
    edges = [None, *histogram.edges[1:-1], None]
    labels = ["", *histogram.labels[1:-1], ""]
    found = []
    for number, count in enumerate(histogram.counts):
        low, high = edges[number], edges[number + 1]
        ends = [f"from {labels[number]}"] if low is not None else []
        ends += [f"to less than {labels[number + 1]}"] if high is not None else []
        found.append(
            Bar(
                url=view.between(histogram.column, low, high).query(),
                height=max(100 * count / most, 3) if count else 0,
                label=f"{' '.join(ends)}: {count:,}",
            )
        )
    return found

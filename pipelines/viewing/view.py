"""What somebody looks at: table, search, filters, order and page. All of it stands in the URL.

?q=fox&min.clip=0.2&is.split=test&has.caption=null&sort=clip&order=desc&page=2&columns=clip&where=…
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast
from urllib.parse import urlencode

from pipelines.viewing.index import QueryError

TableName = Literal["images", "failed"]
PARTS = ("min", "max", "below", "is", "has")
PRESENCE = {"value": "has a value", "null": "null"}
_SIGNS = {"min": "≥", "max": "≤", "below": "<", "is": "="}
MAX_TEXT = 2_000
"""Characters of a search or condition."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """A condition on a column: what its parameter is called, and its value.

    Attributes:
        part: `min`, `max`, `below`, `is`, or `has`.
        column: Name.
        value: As it stands in the URL.
    """

    part: str
    column: str
    value: str

    @property
    def parameter(self) -> str:
        """In the URL."""
        return f"{self.part}.{self.column}"

    @property
    def label(self) -> str:
        """For people."""
        if self.part == "has":
            return f"{self.column}: {PRESENCE[self.value]}"
        return f"{self.column} {_SIGNS[self.part]} {self.value}"

    @property
    def number(self) -> int | float:
        """The value of `min`, `max` or `below`."""
        try:
            return int(self.value)
        except ValueError:
            pass
        try:
            number = float(self.value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise QueryError(f"{self.parameter} = '{self.value[:80]}': not a number; write one such as 0.25")
        return number


@dataclass(frozen=True, kw_only=True)
class View:
    """What is looked at.

    Attributes:
        table: `images`, or `failed` for dead letters.
        selection: Of a curation, whose decisions are shown; "" for none.
        text: Words that all must be in the prompt or caption.
        where: A condition in SQL.
        filters: On columns.
        sort: A column; "" for the order of the output.
        descending: Whether the greatest come first.
        page: From 1.
        columns: That are shown below each image; empty for the usual ones.
    """

    table: TableName = "images"
    selection: str = ""
    text: str = ""
    where: str = ""
    filters: tuple[Filter, ...] = ()
    sort: str = ""
    descending: bool = False
    page: int = 1
    columns: tuple[str, ...] = ()

    @classmethod
    def parse(cls, parameters: Iterable[tuple[str, str]]) -> View:
        """The view that the parameters of a URL describe; others than its own are left alone.

        Raises:
            QueryError: One has a value that it cannot have.
        """
        single: dict[str, str] = {}
        filters: list[Filter] = []
        columns: list[str] = []
        for name, value in parameters:
            part, dot, column = name.partition(".")
            if value == "" or len(value) > MAX_TEXT:
                if value:
                    raise QueryError(f"{name[:80]}: more than {MAX_TEXT} characters; shorten it")
            elif name == "columns":
                columns.append(value)
            elif dot and part in PARTS:
                filters.append(Filter(part=part, column=column, value=value))
            else:
                single[name] = value
        _check(single, "table", ("images", "failed"))
        _check(single, "order", ("asc", "desc"))
        for item in filters:
            if item.part == "has":
                _check({item.parameter: item.value}, item.parameter, tuple(PRESENCE))
        page = single.get("page", "1")
        if not (page.isascii() and page.isdigit() and 0 < int(page) < 10**9):
            raise QueryError(f"page = '{page[:80]}': not a page; the first is 1")
        return cls(
            table=cast(TableName, single.get("table", "images")),
            selection=single.get("selection", ""),
            text=single.get("q", ""),
            where=single.get("where", ""),
            filters=tuple(filters),
            sort=single.get("sort", ""),
            descending=single.get("order") == "desc",
            page=int(page),
            columns=tuple(dict.fromkeys(columns)),
        )

    def parameters(self) -> list[tuple[str, str]]:
        """The parameters that `parse` reads, without those that say nothing."""
        single: Mapping[str, str] = {
            "table": "" if self.table == "images" else self.table,
            "selection": self.selection,
            "q": self.text,
            "where": self.where,
        }
        found = [(name, value) for name, value in single.items() if value]
        found += [(item.parameter, item.value) for item in self.filters]
        if self.sort:
            found += [("sort", self.sort)]
        if self.descending:
            found += [("order", "desc")]
        found += [("columns", column) for column in self.columns]
        return found + ([("page", str(self.page))] if self.page > 1 else [])

    def query(self, *more: tuple[str, Any]) -> str:
        """The parameters as they stand in a URL, after those given, with the "?" before them."""
        pairs = [(name, str(value)) for name, value in more] + self.parameters()
        return f"?{urlencode(pairs)}" if pairs else "?"

    def at_page(self, page: int) -> View:
        """This view at another page."""
        return replace(self, page=page)

    def without_text(self) -> View:
        """This view without its search, on its first page."""
        return replace(self, text="", page=1)

    def without_where(self) -> View:
        """This view without its SQL condition, on its first page."""
        return replace(self, where="", page=1)

    def without(self, dropped: Filter) -> View:
        """This view without a filter, on its first page."""
        return replace(self, filters=tuple(f for f in self.filters if f != dropped), page=1)

    def between(self, column: str, low: float | None, high: float | None) -> View:
        """This view's rows with a value from `low` to less than `high`; None for no further bound."""
        ends = (("min", low), ("below", high))
        added = [Filter(part=p, column=column, value=repr(end)) for p, end in ends if end is not None]
        own = [f for f in self.filters if f.column == column and f.part in ("min", "max", "below")]
        least = [f for f in [*own, *added] if f.part == "min"]
        most = [f for f in [*own, *added] if f.part != "min"]
        bounds = sorted(least, key=lambda f: f.number)[-1:]
        bounds += sorted(most, key=lambda f: (f.number, f.part))[:1]  # less than x before x at most
        others = [f for f in self.filters if f not in own]
        return replace(self, filters=(*others, *bounds), page=1)

    def value_of(self, parameter: str) -> str:
        """The value of a filter's parameter; "" where there is none."""
        return next((item.value for item in self.filters if item.parameter == parameter), "")


def _check(values: Mapping[str, str], name: str, allowed: Sequence[str]) -> None:
    if name in values and values[name] not in allowed:
        raise QueryError(f"{name[:80]} = '{values[name][:80]}': choose {' or '.join(allowed)}")

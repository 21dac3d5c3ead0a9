"""A table of the index as queries see it, and a view's conditions in its SQL."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipelines.private_database import quoted
from pipelines.selection.expressions import RecipeError, columns_in, no_column
from pipelines.viewing.columns import ROW, TEXT, Column
from pipelines.viewing.index import QueryError
from pipelines.viewing.view import Filter, View

_SIGNS = {"min": ">=", "max": "<=", "below": "<"}


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A table.

    Attributes:
        name: In the index.
        columns: Its columns.
        id: The column whose values are unique.
        texts: The columns that a search looks through; the first is shown as the row's text.
    """

    name: str
    columns: tuple[Column, ...]
    id: str
    texts: tuple[str, ...]

    def column(self, name: str) -> Column:
        """The column of that name; QueryError where there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise QueryError(no_column(name, [column.name for column in self.columns], "this table"))

    def condition(self, view: View) -> tuple[str, list[Any]]:
        """What its rows must be, in SQL, and the values of its parameters.

        Raises:
            QueryError: A filter does not fit its column, or `where` is no condition over the columns.
        """
        parts, values = ["true"], list[Any]()
        words = view.text.lower().split()
        parts += [f"contains({TEXT}, ?)"] * len(words)
        values += words
        for item in view.filters:
            sql, own = self._filter(item)
            parts.append(sql)
            values += own
        if view.where:
            _check(view.where, tuple(column.name for column in self.columns))
            parts.append(f"({view.where}\n)")
        return " AND ".join(parts), values

    def order(self, view: View) -> str:
        """The order of its rows, in SQL."""
        if not view.sort:
            return f"{ROW} DESC" if view.descending else ROW
        way = "DESC" if view.descending else "ASC"
        return f"{quoted(self.column(view.sort).name)} {way} NULLS LAST, {ROW}"

    def _filter(self, item: Filter) -> tuple[str, list[Any]]:
        column = self.column(item.column)
        name = quoted(column.name)
        if item.part == "has":
            return f"{name} IS {'NOT ' if item.value == 'value' else ''}NULL", []
        if item.part in _SIGNS:
            if column.kind != "number":
                raise QueryError(
                    f"{item.parameter}: column '{column.name}' has no numbers; use is.{column.name}"
                )
            return f"{name} {_SIGNS[item.part]} ?", [item.number]
        if column.kind == "boolean" and item.value not in ("true", "false"):
            raise QueryError(f"{item.parameter} = '{item.value[:80]}': choose true or false")
        if column.kind == "number":
            return f"{name} = ?", [item.number]
        return f"{name if column.kind == 'text' else f'CAST({name} AS VARCHAR)'} = ?", [item.value]


@lru_cache
def _check(where: str, names: tuple[str, ...]) -> None:
    """That a condition is one expression over these columns; QueryError where it is not."""
    try:
        columns_in("where", where, names, "this table")
    except RecipeError as error:
        raise QueryError(str(error).removeprefix("rule 'where': ")) from error

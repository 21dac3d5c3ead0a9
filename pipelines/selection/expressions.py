"""The SQL that a recipe's author wrote: one expression over an image's columns, and nothing else.

It is taken apart before it meets any data. Refused are several statements or values, subqueries (they would
see images that earlier rules have dropped) and functions that differ from run to run.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import duckdb

from pipelines.errors import RefusalError


class RecipeError(RefusalError):
    """A recipe that does not fit the scores; the message names the rule and what there is."""


def columns_in(name: str, expression: str, columns: Sequence[str], table: str = "the scores") -> list[str]:
    """The columns that a rule's expression reads, in their order in the scores.

    Args:
        name: Of the rule.
        expression: Its SQL.
        columns: That the scores have and rules can read.
        table: What has them, for messages.

    Raises:
        RecipeError: It is not one expression over these columns.
    """
    where = f"rule '{name}': '{expression}'"
    nodes = list(_nodes(_tree(where, expression)))
    classes = {node["class"] for node in nodes if "class" in node}
    for refused in _REFUSED:
        if refused in classes:
            raise RecipeError(f"{where}: {_REFUSED[refused]}")
    parameters = {
        ref["column_names"][-1].lower()
        for node in nodes
        if node.get("class") == "LAMBDA"
        for ref in _nodes(node["lhs"])
        if "column_names" in ref
    }
    called = {node["function_name"].lower() for node in nodes if "function_name" in node}
    known = {column.lower(): column for column in columns}
    used = set()
    for node in nodes:
        parts = [part.lower() for part in node.get("column_names", ())]
        if parts[:1] == ["images"]:
            parts = parts[1:]
        if parts and parts[0] in known:
            used.add(known[parts[0]])
        elif parts and parts[0] in _unsteady():
            called.add(parts[0])
        elif parts and parts[0] not in parameters:
            raise RecipeError(f"{where}: {no_column('.'.join(parts), columns, table)}")
    if unsteady := sorted(called & _unsteady()):
        raise RecipeError(
            f"{where}: '{unsteady[0]}' differs from run to run; the rule `sample` chooses at random"
        )
    return [column for column in columns if column in used]


def no_column(name: str, columns: Sequence[str], table: str = "the scores") -> str:
    """What to say of a column that is not there."""
    close = difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"no column '{name}' in {table}; {hint}Columns are {', '.join(columns)}"


_REFUSED = {
    "SUBQUERY": "it has a subquery; compare with a window function such as avg(x) OVER () instead",
    "STAR": "it names columns by *; name each",
    "PARAMETER": "it has a parameter; write the value",
}
"""Kinds of nodes that no expression may have, and what to do instead."""


def _tree(where: str, expression: str) -> Any:
    """The expression as DuckDB parses it.

    In brackets no clause can follow it; without them it cannot close brackets that it has not opened.
    """
    trees = []
    for query in (f"SELECT ({expression}\n) FROM images", f"SELECT {expression}\n FROM images"):
        with duckdb.connect() as connection:
            found = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()[0][0]
        parsed = json.loads(found)
        if parsed["error"]:
            raise RecipeError(f"{where}: not an SQL expression: {parsed['error_message']}")
        nodes = [statement["node"] for statement in parsed["statements"]]
        if len(nodes) != 1 or nodes[0]["type"] != "SELECT_NODE" or len(nodes[0]["select_list"]) != 1:
            raise RecipeError(f"{where}: not one SQL expression; write a single condition or value")
        trees.append(nodes[0]["select_list"][0])
    return trees[0]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All JSON objects in a tree."""
    if isinstance(tree, dict):
        yield tree
    for below in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(below)


@cache
def _unsteady() -> frozenset[str]:
    """Functions of DuckDB that do not depend on their arguments alone."""
    query = "SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE stability <> 'CONSISTENT'"
    with duckdb.connect() as connection:
        names = [row[0] for row in connection.execute(query).fetchall()]
    return frozenset([*names, "current_timestamp", "current_time", "localtime", "localtimestamp"])

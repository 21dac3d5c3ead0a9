"""Columns that go into the index: single values, no bytes and no lists; as SQL takes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.arrow_types import is_bytes, is_text
from schemas.described import description

Kind = Literal["number", "boolean", "text", "other"]
ROW, OBJECT, NUMBER, TEXT = "__row", "__object", "__number", "__text"
"""Columns of the index: a row's place in it, the object that the row is from, its number within that; what is
searched, in lower case."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the index.

    Attributes:
        name: In the index. SQL does not tell upper and lower case apart, so it may differ from `source`.
        source: In the Parquet objects.
        kind: What can be asked of it.
        is_score: Whether its values are measures: numbers that are not whole.
        is_decision: Whether it is a selection's decision, not a column of the output.
        about: What its schema says of it.
    """

    name: str
    source: str
    kind: Kind
    is_score: bool = False
    is_decision: bool = False
    about: str = ""


def indexed_columns(schema: pa.Schema) -> list[Column]:
    """The columns of a schema that go into the index."""
    taken = {ROW, OBJECT, NUMBER, TEXT}
    return [
        Column(
            name=free_name(field.name, taken),
            source=field.name,
            kind=_kind(field.type),
            is_score=pa.types.is_floating(field.type),
            about=description(field),
        )
        for field in schema
        if not _is_large(field.type)
    ]


def left_out(schema: pa.Schema) -> dict[str, str]:
    """The types of the other columns, by name."""
    return {field.name: str(field.type) for field in schema if _is_large(field.type)}


def indexed_rows(
    rows: pa.Table,
    columns: Sequence[Column],
    searched: Sequence[str],
    first_row: int,
    object_number: int,
) -> pa.Table:
    """Rows of an object as the index takes them: null for what is not a number, texts that are UTF-8.

    Args:
        rows: All of the object, with the columns' sources.
        columns: Of the index.
        searched: Names of those that a search looks through.
        first_row: Place of the first row in the index.
        object_number: Of the object.
    """
    count = rows.num_rows
    arrays = {column.name: _clean(rows[column.source]) for column in columns}
    arrays[ROW] = pa.array(range(first_row, first_row + count), pa.int64())
    arrays[OBJECT] = pa.array([object_number] * count, pa.int32())
    arrays[NUMBER] = pa.array(range(count), pa.int64())
    texts = [arrays[name] for name in searched] or [pa.array([""] * count, pa.string())]
    joined = pc.binary_join_element_wise(*(pc.fill_null(text, "") for text in texts), "\n")
    arrays[TEXT] = pc.utf8_lower(joined)
    return pa.table(arrays)


def free_name(name: str, taken: set[str]) -> str:
    """The name, or one like it, that differs from those taken by more than case; takes it.

    `taken` are names in lower case.
    """
    found, number = name or "column", 2
    while found.lower() in taken:
        found, number = f"{name or 'column'}_{number}", number + 1
    taken.add(found.lower())
    return found


def named(columns: Collection[Column], *sources: str) -> list[Column]:
    """Those of the columns whose names in the Parquet objects are these, where there are such."""
    return [column for source in sources for column in columns if column.source == source]


def _is_large(kind: pa.DataType) -> bool:
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    return is_bytes(kind) or bool(pa.types.is_nested(values))


def _kind(kind: pa.DataType) -> Kind:
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    if pa.types.is_boolean(kind):
        return "boolean"
    return "text" if _is_text(kind) else "other"


def _is_text(kind: pa.DataType) -> bool:
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    return is_text(kind) or bool(pa.types.is_null(values))


def _clean(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _clean(column.cast(kind.value_type))
    if pa.types.is_floating(kind):
        values = column.cast(pa.float32()) if pa.types.is_float16(kind) else column
        # SQL would take what is not a number for the greatest of all
        return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    if not _is_text(kind):
        return column
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:  # Arrow believes a file that says its bytes are text
        raw = column.cast(pa.large_binary()).to_pylist()
        column = pa.chunked_array([pa.array([v and v.decode(errors="replace") for v in raw], pa.string())])
    return column.cast(pa.string())

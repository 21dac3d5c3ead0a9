"""The columns of a dataset, as its shards themselves describe them."""

from __future__ import annotations

import pyarrow as pa

from pipelines.cards.markdown import code, table, text
from schemas.described import description
from schemas.prompts import IMAGE


def schema_table(schema: pa.Schema) -> str:
    """A table in Markdown: column, type, whether it may be null, description."""
    rows = [
        (code(field.name), code(_type(field.type)), "yes" if field.nullable else "", text(description(field)))
        for field in schema
    ]
    return table(("column", "type", "nullable", "what it holds"), rows)


def _type(kind: pa.DataType) -> str:
    return "image" if kind == IMAGE else str(kind)

"""Databases of DuckDB from which no query reaches anything else, and rows to put into them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.inputs import ParquetInput, read_batches, schema_of

ORDINAL = "__ordinal"
"""Column of `numbered_batches`: a row's place among all rows of the input."""
MEMORY = "2GB"
"""Of a database; more goes to its own folder."""
_LOCKED = (
    ("enable_progress_bar", "false"),
    ("autoinstall_known_extensions", "false"),
    ("autoload_known_extensions", "false"),
    ("python_enable_replacements", "false"),
    ("enable_external_access", "false"),
    ("lock_configuration", "true"),
)


@contextmanager
def private_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database in a file of its own, from which no query reaches anything else."""
    with tempfile.TemporaryDirectory(prefix="database-") as folder:
        config: dict[str, Any] = {"temp_directory": folder, "memory_limit": MEMORY}
        connection = duckdb.connect(str(Path(folder, "rows.duckdb")), config=config)
        try:
            lock(connection)
            yield connection
        finally:
            connection.close()


def lock(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep what runs on a connection from files, network, extensions, Python's variables and settings."""
    for name, value in _LOCKED:
        connection.execute(f"SET {name} = {value}")


def readable(schema: pa.Schema) -> list[str]:
    """The columns that conditions can read: lists, such as embeddings, and images are none."""
    return [field.name for field in schema if not pa.types.is_nested(field.type)]


def numbered_batches(found: ParquetInput, names: Sequence[str]) -> pa.RecordBatchReader:
    """These columns of all rows, and their ORDINAL; NaN is null."""
    schema = schema_of(found)
    fields = [schema.field(name) for name in names]
    chosen = pa.schema([*fields, pa.field(ORDINAL, pa.int64())])

    def batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for batch in read_batches(found, names):
            columns = [_without_nan(batch[field.name]).cast(field.type) for field in fields]
            columns.append(pa.array(np.arange(start, start + batch.num_rows)))
            start += batch.num_rows
            yield pa.record_batch(columns, schema=chosen)

    return pa.RecordBatchReader.from_batches(chosen, batches())


def quoted(column: str) -> str:
    """A column's name in SQL."""
    return '"' + column.replace('"', '""') + '"'


def _without_nan(column: pa.Array) -> pa.Array:
    """With null for what is not a number: SQL would take it for the greatest of all."""
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)

"""The scores of a dataset as a table of DuckDB, in a file of its own; nothing else can be reached from it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.inputs import ParquetInput, open_parquet, read_batches

ORDINAL, DECISION = "__ordinal", "__rule"
"""Columns of the table: an image's place in the input, and the rule that dropped it."""
FACTS = ("row_id", "uid", "image_id", "source_path", "source_row")
_MEMORY = "2GB"


@contextmanager
def images_table(scores: ParquetInput, wanted: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the table `images`: the columns FACTS and `wanted`, and what decisions are noted in.

    Expressions of a recipe can read this table and nothing else: no files, no network, no settings.
    """
    with tempfile.TemporaryDirectory(prefix="selection-") as folder:
        connection = duckdb.connect(str(Path(folder, "images.duckdb")), config={"temp_directory": folder})
        try:
            connection.execute(f"SET memory_limit = '{_MEMORY}'")
            for name, value in (
                ("autoinstall_known_extensions", "false"),
                ("autoload_known_extensions", "false"),
                ("python_enable_replacements", "false"),
                ("enable_external_access", "false"),
                ("lock_configuration", "true"),
            ):
                connection.execute(f"SET {name} = {value}")
            names = list(dict.fromkeys([*FACTS, *wanted]))
            connection.register("incoming", _reader(scores, names))
            connection.execute(
                "CREATE TABLE images AS SELECT *, "
                f'CAST(NULL AS VARCHAR) AS "{DECISION}", CAST(NULL AS VARCHAR) AS __value, '
                "CAST(NULL AS VARCHAR) AS __threshold, CAST(NULL AS VARCHAR) AS __duplicate_of, "
                "CAST(NULL AS VARCHAR) AS __duplicate_kind, CAST(NULL AS FLOAT) AS __distance FROM incoming"
            )
            connection.unregister("incoming")
            yield connection
        finally:
            connection.close()


def schema_of(scores: ParquetInput) -> pa.Schema:
    """The columns of a dataset of scores."""
    with scores.storage.open(scores.objects[0].path) as stream:
        return open_parquet(stream, scores.storage.uri_of(scores.objects[0].path)).schema_arrow


def readable(schema: pa.Schema) -> list[str]:
    """The columns that rules can read: lists, such as embeddings, and images are none."""
    return [field.name for field in schema if not pa.types.is_nested(field.type)]


def _reader(scores: ParquetInput, names: Sequence[str]) -> pa.RecordBatchReader:
    schema = schema_of(scores)
    fields = [schema.field(name) for name in names]
    chosen = pa.schema([*fields, pa.field(ORDINAL, pa.int64())])

    def batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for batch in read_batches(scores, names):
            columns = [_without_nan(batch[field.name]).cast(field.type) for field in fields]
            columns.append(pa.array(np.arange(start, start + batch.num_rows)))
            start += batch.num_rows
            yield pa.record_batch(columns, schema=chosen)

    return pa.RecordBatchReader.from_batches(chosen, batches())


def _without_nan(column: pa.Array) -> pa.Array:
    """With null for what is not a number: SQL would take it for the greatest of all."""
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)

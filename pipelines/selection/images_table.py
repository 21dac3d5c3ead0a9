"""The scores of a dataset as a table of DuckDB in which a recipe's decisions are noted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb

from pipelines.inputs import ParquetInput
from pipelines.private_database import numbered_batches, private_database

DECISION = "__rule"
"""Column of the table: the rule that dropped the image."""
FACTS = ("row_id", "uid", "image_id", "source_path", "source_row")


@contextmanager
def images_table(scores: ParquetInput, wanted: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the table `images`: FACTS, `wanted`, ORDINAL, and what decisions are noted in.

    Expressions of a recipe can read this table and nothing else: no files, no network, no settings.
    """
    with private_database() as connection:
        names = list(dict.fromkeys([*FACTS, *wanted]))
        connection.register("incoming", numbered_batches(scores, names))
        connection.execute(
            "CREATE TABLE images AS SELECT *, "
            f'CAST(NULL AS VARCHAR) AS "{DECISION}", CAST(NULL AS VARCHAR) AS __value, '
            "CAST(NULL AS VARCHAR) AS __threshold, CAST(NULL AS VARCHAR) AS __duplicate_of, "
            "CAST(NULL AS VARCHAR) AS __duplicate_kind, CAST(NULL AS FLOAT) AS __distance FROM incoming"
        )
        connection.unregister("incoming")
        yield connection

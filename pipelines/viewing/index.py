"""Rows in a database file of their own: written by its owner alone, and from queries nothing else is reached.

index = Index(folder)
index.append("images", table)
index.query('SELECT count(*) FROM images')
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pipelines.errors import RefusalError
from pipelines.private_database import MEMORY, lock

LIMIT_S = 10.0
"""For one query of somebody."""


class QueryError(RefusalError):
    """A query that has no answer; the message says why."""


class Index:
    """A DuckDB file. Threads may query at once; an append waits for queries to end, and they for it.

    Args:
        folder: Where the file goes.
        limit_s: Seconds that a query may take, if it is limited.
    """

    def __init__(self, folder: Path, limit_s: float = LIMIT_S) -> None:
        self._folder, self._limit_s = folder, limit_s
        self._gate = threading.Condition()
        self._num_queries = 0
        with self._opened(read_only=False):
            pass  # a file that is not there cannot be opened for reading
        self._reader = self._connect(read_only=True)

    def append(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table, which is made by the first ones."""
        with self.writing() as connection:
            connection.register("incoming", rows)
            found = connection.execute(
                "SELECT count(*) FROM information_schema.tables WHERE table_name = ?", [table]
            ).fetchall()
            if found[0][0]:
                connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
            else:
                connection.execute(f"CREATE TABLE {table} AS SELECT * FROM incoming")
            connection.unregister("incoming")

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that may write; no query runs meanwhile."""
        with self._gate:
            self._gate.wait_for(lambda: self._num_queries == 0)
            self._reader.close()  # one process cannot have a file open in both ways
            try:
                with self._opened(read_only=False) as connection:
                    yield connection
            finally:
                self._reader = self._connect(read_only=True)

    def query(
        self, sql: str, values: Sequence[Any] = (), *, is_limited: bool = True
    ) -> list[tuple[Any, ...]]:
        """The rows that a query gives.

        Raises:
            QueryError: It is none, or takes longer than `limit_s`.
        """
        with self._gate:
            cursor = self._reader.cursor()
            self._num_queries += 1
        timer = threading.Timer(self._limit_s, cursor.interrupt)
        timer.daemon = True
        if is_limited:
            timer.start()
        try:
            return cursor.execute(sql, list(values)).fetchall()
        except duckdb.InterruptException as error:
            raise QueryError(
                f"the query took longer than {self._limit_s:g} seconds and was stopped; ask for less"
            ) from error
        except duckdb.Error as error:
            raise QueryError(f"the query cannot be answered: {_first_line(error)}") from error
        finally:
            timer.cancel()
            cursor.close()
            with self._gate:
                self._num_queries -= 1
                self._gate.notify_all()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    @contextmanager
    def _opened(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = self._connect(read_only=read_only)
        try:
            yield connection
        finally:
            connection.close()

    def _connect(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        config: dict[str, Any] = {"temp_directory": str(self._folder), "memory_limit": MEMORY}
        file = str(self._folder / "rows.duckdb")
        connection = duckdb.connect(file, read_only=read_only, config=config)
        lock(connection)
        return connection


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

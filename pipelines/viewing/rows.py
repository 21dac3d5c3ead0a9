"""The rows of an output in an index: read from its committed shards, joined with a curation's decisions."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from pipelines.commit import Commit
from pipelines.inputs import find_parquet, open_parquet
from pipelines.private_database import numbered_batches, quoted
from pipelines.storage import StorageError
from pipelines.viewing.columns import (
    NUMBER,
    OBJECT,
    ROW,
    Column,
    free_name,
    indexed_columns,
    indexed_rows,
    left_out,
    named,
)
from pipelines.viewing.index import Index, QueryError
from pipelines.viewing.new_commits import CommittedUnits
from pipelines.viewing.outputs import Output, Selection
from pipelines.viewing.relations import Relation
from schemas.decisions import DECISIONS
from schemas.described import description
from schemas.failed import FAILED

IMAGES, FAILURES = "images", "failed"
DECIDED = ("kept", "rule", "value", "threshold", "duplicate_of", "duplicate_kind", "distance")
"""What is shown of a decision."""
_TEXTS = {IMAGES: ("prompt", "caption"), FAILURES: ("message", "row_id", "error_type")}
_APPENDED_ROWS = 100_000
_THREADS = 8
_SHARDS_AHEAD = 32
OnProgress = Callable[[int, int], None]
"""Called with the shards that have been read, and how many there are."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a row is.

    Attributes:
        path: The Parquet object, in the output's folder.
        number: Of the row within it.
    """

    path: str
    number: int


class OutputRows:
    """The rows of an output, as of its last `refresh`.

    Attributes:
        output: The output.
        index: The database.
        relations: Tables by name; those of a selection are called `images/NAME`.
        selections: A curation's selections by name.
        left_out: Types of the columns that are not in the index, by name.
        units: Which units are in it.
        is_finished: Whether the output has a manifest.
        started: Unix time when they were first looked at, in seconds.
        refreshed_at: Of the last refresh.
        version: Changes with the rows.
    """

    def __init__(self, output: Output, folder: Path) -> None:
        self.output, self.index = output, Index(folder)
        self.relations: dict[str, Relation] = {}
        self.selections: dict[str, Selection] = {}
        self.left_out: dict[str, str] = {}
        self.units, self.is_finished = CommittedUnits(output.ledger), False
        self.started, self.refreshed_at, self.version = int(time.time()), 0.0, 0
        self._objects: list[str] = []
        self._num_rows = 0
        self._numbers: dict[str, int] = {}  # of selections, in the names of their tables
        self._columns: list[Column] = []
        self._refreshing = threading.Lock()

    def refresh(self, on_progress: OnProgress | None = None) -> None:
        """Add the rows of units that were committed since the last time; look at dead letters and selections.

        What an error has kept from being taken in, the next refresh takes in.

        Raises:
            StorageError: The output cannot be read.
            PlanError: A shard is damaged.
        """
        with self._refreshing:
            is_finished, commits = self.output.is_finished, self.units.new()
            selections = self.output.selections()
            if commits or selections != self.selections:
                try:
                    self._take_in(commits, selections, on_progress or (lambda done, total: None))
                finally:
                    self.version += 1  # also what is taken in by halves makes kept answers wrong
            self.is_finished, self.refreshed_at = is_finished, time.time()

    def relation(self, table: str, selection: str = "") -> Relation | None:
        """A table; None while it has no rows.

        Raises:
            QueryError: There is no such selection.
        """
        if selection and selection not in self.selections:
            names = ", ".join(self.selections) or "none"
            raise QueryError(f"no selection '{selection[:80]}'; there are {names}")
        return self.relations.get(f"{table}/{selection}" if selection and table == IMAGES else table)

    def place(self, row: int) -> Place:
        """Where a row of the table of images is.

        Raises:
            QueryError: There is no such row.
        """
        found = self.index.query(f"SELECT {OBJECT}, {NUMBER} FROM {IMAGES} WHERE {ROW} = ?", [row])
        if not found:
            raise QueryError(f"no row {row}")
        return Place(path=self._objects[found[0][0]], number=found[0][1])

    def _take_in(
        self, commits: list[Commit], selections: dict[str, Selection], on_progress: OnProgress
    ) -> None:
        """Bring the index up to date; what is new is noted as known when all of it is there."""
        known = set(self._objects)
        paths = [entry.path for c in commits for entry in c.outputs if entry.path.endswith(".parquet")]
        if shards := [path for path in paths if path not in known]:
            self._append(shards, on_progress)
        for name in self.selections.keys() - selections.keys():
            self.relations.pop(f"{IMAGES}/{name}", None)
        changed = {name: s for name, s in selections.items() if commits or s != self.selections.get(name)}
        if IMAGES in self.relations:
            self._join_decisions(changed)
        if commits:
            self._replace_letters(commits)
        self.selections = selections
        self.units.note(commits)

    def _append(self, shards: list[str], on_progress: OnProgress) -> None:
        waiting: dict[str, pa.Table] = {}
        num_waiting = 0
        for done, (path, table) in enumerate(self._read(shards), start=1):
            if not self._columns:
                self._describe(path)
            searched = _searched(IMAGES, self._columns)
            first_row, number = self._num_rows + num_waiting, len(self._objects) + len(waiting)
            waiting[path] = indexed_rows(table, self._columns, searched, first_row, number)
            num_waiting += table.num_rows
            if num_waiting >= _APPENDED_ROWS or done == len(shards):
                self.index.append(IMAGES, pa.concat_tables(waiting.values()))
                self._objects += waiting
                self._num_rows += num_waiting
                waiting, num_waiting = {}, 0
            on_progress(done, len(shards))
        self.relations[IMAGES] = self._relation(IMAGES, self._columns, self.output.ledger.spec.unique_id)

    def _read(self, shards: Iterable[str]) -> Iterator[tuple[str, pa.Table]]:
        """The columns of shards that go into the index, some shards ahead."""
        with ThreadPoolExecutor(_THREADS) as pool:
            reading: deque[tuple[str, Future[pa.Table]]] = deque()
            for path in shards:
                reading.append((path, pool.submit(self._read_shard, path)))
                if len(reading) > _SHARDS_AHEAD:
                    path, future = reading.popleft()
                    yield path, future.result()
            for path, future in reading:
                yield path, future.result()

    def _read_shard(self, path: str) -> pa.Table:
        storage = self.output.ledger.storage
        with storage.open(path) as stream:
            file = open_parquet(stream, storage.uri_of(path))
            return file.read(
                [column.source for column in indexed_columns(file.schema_arrow)], use_threads=False
            )

    def _describe(self, path: str) -> None:
        storage = self.output.ledger.storage
        with storage.open(path) as stream:
            schema = open_parquet(stream, storage.uri_of(path)).schema_arrow
        self._columns, self.left_out = indexed_columns(schema), left_out(schema)

    def _replace_letters(self, commits: list[Commit]) -> None:
        storage = self.output.ledger.storage
        columns = indexed_columns(FAILED)
        tables, first = [], 0
        for entry in self.units.letters(commits):
            with storage.open(entry.path) as stream:
                rows = open_parquet(stream, storage.uri_of(entry.path)).read()
            tables.append(indexed_rows(rows, columns, _searched(FAILURES, columns), first, 0))
            first += rows.num_rows
        with self.index.writing() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {FAILURES}")
        self.relations.pop(FAILURES, None)
        if tables:
            self.index.append(FAILURES, pa.concat_tables(tables))
            self.relations[FAILURES] = self._relation(FAILURES, columns, "row_id")

    def _join_decisions(self, selections: dict[str, Selection]) -> None:
        """A table of each selection's decisions, row for row beside the images, and a view of both."""
        taken = {column.name.lower() for column in self._columns}
        names = {n: n if n not in taken else free_name(f"decision_{n}", taken) for n in DECIDED}
        columns = [
            Column(
                name=names[column.source],
                source=column.source,
                kind=column.kind,
                is_decision=True,
                about=description(DECISIONS.field(column.source)),
            )
            for column in named(indexed_columns(DECISIONS), *DECIDED)
        ]
        chosen = ", ".join(f"decisions.{quoted(n)} AS {quoted(names[n])}" for n in DECIDED)
        for name, selection in selections.items():
            number = self._numbers.setdefault(name, len(self._numbers))
            batches = numbered_batches(find_parquet(selection.uri), ["row_id", *DECIDED])
            view, decided = f"{IMAGES}_{number}", f"decided_{number}"
            with self.index.writing() as connection:
                connection.register("decisions", batches)
                connection.begin()  # where the batches cannot be read, what was there stays
                connection.execute(f"DROP VIEW IF EXISTS {view}")
                try:
                    connection.execute(
                        f"CREATE OR REPLACE TABLE {decided} AS SELECT {chosen} FROM {IMAGES} "
                        f"LEFT JOIN decisions USING (row_id) ORDER BY {ROW}"
                    )
                except duckdb.Error as error:  # that of whoever read the batches is within it
                    why = str(error).partition(". Detail: ")[0]
                    raise StorageError(f"{selection.uri}: its decisions cannot be read: {why}") from error
                connection.execute(f"CREATE VIEW {view} AS SELECT * FROM {IMAGES} POSITIONAL JOIN {decided}")
                connection.commit()
                connection.unregister("decisions")
            relation = self._relation(view, [*self._columns, *columns], "row_id")
            self.relations[f"{IMAGES}/{name}"] = relation

    def _relation(self, name: str, columns: list[Column], unique: str) -> Relation:
        return Relation(
            name=name,
            columns=tuple(columns),
            id=named(columns, unique)[0].name,
            texts=tuple(_searched(FAILURES if name == FAILURES else IMAGES, columns)),
        )


def _searched(table: str, columns: list[Column]) -> list[str]:
    """The columns that a search looks through."""
    return [column.name for column in named(columns, *_TEXTS[table]) if column.kind == "text"]

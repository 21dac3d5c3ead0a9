"""The scores and decisions of a curation output as tables of DuckDB: aggregates and samples, never images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from pipelines.inputs import ParquetInput, read_batches, schema_of
from pipelines.pages.words import TEXT_CHARS, shortened
from pipelines.private_database import ORDINAL, numbered_batches, private_database, quoted

WORDS, CHARACTERS = "__words", "__characters"
"""Columns of the table `images`: the caption's length."""
_DECIDED = ("row_id", "kept", "rule", "value", "threshold", "duplicate_of", "distance")
_FACTS = ("row_id", "uid", "caption", "format", "mode", "width", "height", "aspect", "size_bytes")


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A row to show.

    Attributes:
        ordinal: Its place in the scores.
        row_id: Its id.
        caption: The beginning of its caption.
        rule: That dropped it; "" where it stays.
        value: What the rule looked at.
        threshold: What that rule demanded.
    """

    ordinal: int
    row_id: str
    caption: str
    rule: str = ""
    value: str = ""
    threshold: str = ""


@contextmanager
def curated_tables(
    scores: ParquetInput, columns: Sequence[str], decisions: Sequence[ParquetInput]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the table `images`, and one of decisions for each selection.

    `images` has some facts, `columns`, the lengths of captions, and of each selection `kept_of(number)`.

    Args:
        scores: The scores.
        columns: Of them, to look at.
        decisions: Of the selections.
    """
    with private_database() as connection:
        present = schema_of(scores).names
        read = list(dict.fromkeys([*(name for name in _FACTS if name in present), *columns]))
        connection.register("incoming", numbered_batches(scores, read))
        words = "CASE WHEN trim(caption) = '' THEN 0 ELSE len(string_split_regex(trim(caption), '\\s+')) END"
        connection.execute(
            f"CREATE TABLE scored AS SELECT * REPLACE (left(caption, {TEXT_CHARS + 1}) AS caption), "
            f"{words} AS {WORDS}, length(caption) AS {CHARACTERS} FROM incoming"
        )
        connection.unregister("incoming")
        for number, found in enumerate(decisions):
            connection.register("incoming", _decided(found))
            connection.execute(
                f'CREATE TABLE {decisions_of(number)} AS SELECT "{ORDINAL}", incoming.* REPLACE '
                f"(left(incoming.value, {TEXT_CHARS + 1}) AS value, "
                f"left(incoming.threshold, {TEXT_CHARS + 1}) AS threshold) "
                "FROM incoming JOIN scored USING (row_id)"
            )
            connection.unregister("incoming")
        kept = "".join(f", {decisions_of(n)}.kept AS {kept_of(n)}" for n in range(len(decisions)))
        joins = " ".join(f'LEFT JOIN {decisions_of(n)} USING ("{ORDINAL}")' for n in range(len(decisions)))
        connection.execute(f"CREATE VIEW images AS SELECT scored.*{kept} FROM scored {joins}")
        yield connection


def decisions_of(number: int) -> str:
    """The table of a selection's decisions about the images in the scores."""
    return f"decisions_{number}"


def kept_of(number: int) -> str:
    """The column that says whether a selection keeps the image."""
    return f"__kept_{number}"


def sampled(
    connection: duckdb.DuckDBPyConnection, number: int | None, count: int, which: str = "true"
) -> list[Sampled]:
    """Some images, the least by uid: as good as random, and always the same.

    Args:
        connection: With the tables.
        number: Of the selection; None where there is none.
        count: Images at most.
        which: A condition in SQL over `images` and, as `decided`, the selection's decisions.
    """
    noted, joined = "NULL, NULL, NULL", ""
    if number is not None:
        noted = "decided.rule, decided.value, decided.threshold"
        joined = f'JOIN {decisions_of(number)} decided USING ("{ORDINAL}")'
    rows = connection.execute(
        f'SELECT "{ORDINAL}", scored.row_id, scored.caption, {noted} FROM scored {joined} '
        f"WHERE {which} ORDER BY scored.uid, scored.row_id LIMIT {count}"
    ).fetchall()
    return [
        Sampled(
            ordinal=ordinal,
            row_id=row_id,
            caption=shortened(caption),
            rule=shortened(rule),
            value=shortened(value),
            threshold=shortened(threshold),
        )
        for ordinal, row_id, caption, rule, value, threshold in rows
    ]


def counts_of(connection: duckdb.DuckDBPyConnection, column: str, at_most: int = 12) -> dict[str, int]:
    """How many images have each value of a column, the most frequent first, the others together."""
    name = quoted(column)
    rows = connection.execute(
        f"SELECT coalesce(CAST({name} AS VARCHAR), 'none'), count(*) AS images FROM scored GROUP BY 1 "
        "ORDER BY images DESC, 1"
    ).fetchmany(at_most)
    found = {shortened(value): images for value, images in rows}
    ((images,),) = connection.execute("SELECT count(*) FROM scored").fetchall()
    if others := images - sum(images for _, images in rows):
        found["others"] = others
    return found


def _decided(decisions: ParquetInput) -> pa.RecordBatchReader:
    fields = [schema_of(decisions).field(name) for name in _DECIDED]
    return pa.RecordBatchReader.from_batches(pa.schema(fields), read_batches(decisions, _DECIDED))

"""Decide by a recipe which images of a dataset of scores stay: no Ray, no GPU, seconds for a million images.

    OUTPUT/decisions/NNNNN.parquet    of schema DECISIONS: images as in the scores, then dead letters
    OUTPUT/funnel.json  recipe.json   what each rule took away; the recipe
    OUTPUT/uids.npy                   of the images that stay, as DataComp exchanges subsets
    OUTPUT/manifest.json              last

Without a manifest there is nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.config import identity
from pipelines.inputs import ParquetInput, find_parquet, schema_of
from pipelines.json_files import parse_json
from pipelines.manifest import MANIFEST_PATH, read_entries, read_manifest
from pipelines.private_database import ORDINAL, readable
from pipelines.selection.duplicates import drop_duplicates
from pipelines.selection.expressions import RecipeError, columns_in, no_column
from pipelines.selection.funnel import Funnel, Step
from pipelines.selection.images_table import DECISION, FACTS, images_table
from pipelines.selection.recipe import DuplicatesRule, Recipe, Rule
from pipelines.selection.rules import LEFT, apply_test, check_expression, expressions_of, tests_of
from pipelines.selection.uids import uids_array, uids_bytes
from pipelines.shards import parquet_bytes
from pipelines.storage import Storage, open_storage
from schemas.decisions import DECISIONS
from schemas.failed import FAILED
from schemas.manifest import FORMAT, ObjectEntry, json_bytes

PIECE_ROWS = 1_000_000
_DECISIONS = "decisions/"


def select(scores_uri: str, duplicates_uri: str | None, recipe: Recipe, output_uri: str) -> Funnel:
    """Decide which images stay, unless that is done already with this recipe.

    Args:
        scores_uri: A dataset of scores.
        duplicates_uri: Its pairs of duplicates; None where none were looked for.
        recipe: The rules.
        output_uri: Where the decisions go. Those of another recipe are replaced.

    Raises:
        RecipeError: A rule names a column that is not there, or an expression that is not one.
    """
    scores, output = find_parquet(scores_uri), open_storage(output_uri)
    request = _request(scores.storage, duplicates_uri, recipe)
    if output.exists(MANIFEST_PATH):
        if read_manifest(output)["request"] == request:
            return read_funnel(output_uri)
        output.delete(MANIFEST_PATH)  # nobody shall read a mixture
    pairs = _pairs(duplicates_uri, request["scores"])
    columns = readable(schema_of(scores))
    rules = recipe.named_rules()
    reads = {name: _columns_of(name, rule, columns) for name, rule in rules}
    wanted = [column for column in columns if any(column in names for names in reads.values())]
    with images_table(scores, wanted) as connection:
        for name, rule in rules:
            for expression in expressions_of(rule):
                check_expression(connection, name, expression, columns)
        steps = tuple(_apply(connection, name, rule, reads[name], pairs) for name, rule in rules)
        letters = _dead_letters(scores.storage)
        entries = [
            _put(output, f"{_DECISIONS}{number:05d}.parquet", piece)
            for number, piece in enumerate(_pieces(_decisions(connection, letters)))
        ]
        uids = [
            uids_array(batch["uid"].to_pylist())
            for batch in connection.sql(f"SELECT uid FROM images WHERE {LEFT}").to_arrow_reader(PIECE_ROWS)
        ]
    failed = Counter(f"{row['stage']}: {row['error_type']}" for row in letters.to_pylist())
    rows, kept = sum(entry.rows for entry in entries), sum(map(len, uids))
    funnel = Funnel(output=output_uri, rows=rows, failed=dict(sorted(failed.items())), steps=steps, kept=kept)
    files = {
        "funnel.json": (json_bytes(funnel.to_json()), 1),
        "recipe.json": (json_bytes(recipe.model_dump(mode="json")), 1),
        "uids.npy": (uids_bytes(uids), kept),
    }
    for path, (data, _) in files.items():
        output.write(path, data)
    named = {entry.path for entry in entries}
    for left_over in [found.path for found in output.list(_DECISIONS) if found.path not in named]:
        output.delete(left_over)
    manifest = {
        "format": FORMAT,
        "job": "select",
        "request": request,
        "rows_in": rows,
        "rows_out": kept,
        "objects": [entry.to_json() for entry in entries],
        "files": [ObjectEntry.of(path, data, count).to_json() for path, (data, count) in files.items()],
        "failed": {"objects": []},
    }
    output.write(MANIFEST_PATH, json_bytes(manifest))
    return funnel


def read_funnel(selection_uri: str) -> Funnel:
    """The funnel of a selection that is done."""
    storage = open_storage(selection_uri)
    return Funnel.from_json(
        selection_uri, parse_json(storage.read("funnel.json"), f"{selection_uri}/funnel.json")
    )


def _request(scores: Storage, duplicates_uri: str | None, recipe: Recipe) -> dict[str, str | None]:
    """What a selection depends on, as digests."""
    return {
        "scores": scores.sha256(MANIFEST_PATH),
        "duplicates": duplicates_uri and open_storage(duplicates_uri).sha256(MANIFEST_PATH),
        "recipe": hashlib.sha256(json_bytes(identity(recipe))).hexdigest(),
    }


def _pairs(duplicates_uri: str | None, scores_sha256: str | None) -> ParquetInput | None:
    """The pairs; None where there are none.

    Raises:
        RecipeError: They are of other scores.
    """
    if duplicates_uri is None:
        return None
    storage = open_storage(duplicates_uri)
    if read_manifest(storage).get("scores", scores_sha256) != scores_sha256:
        raise RecipeError(
            f"{duplicates_uri}: pairs of other scores; find the duplicates of these, or name their folder"
        )
    return find_parquet(duplicates_uri) if read_entries(storage) else None


def _columns_of(name: str, rule: Rule, columns: list[str]) -> list[str]:
    """The columns that a rule reads."""
    named = [getattr(rule, key, None) for key in ("column", "keep", "rank_by")]
    used = [column for column in named if column is not None]
    for column in used:
        if column not in columns:
            raise RecipeError(f"rule '{name}': {no_column(column, columns)}")
    for expression in expressions_of(rule):
        used += columns_in(name, expression, columns)
    return used


def _apply(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    rule: Rule,
    reads: list[str],
    pairs: ParquetInput | None,
) -> Step:
    before, missing = _count_left(connection), 0
    try:
        if isinstance(rule, DuplicatesRule):
            drop_duplicates(connection, name, rule, pairs)
        else:
            for test in tests_of(rule, reads):
                missing += apply_test(connection, name, test, rule.missing == "keep")
    except duckdb.Error as error:
        raise RecipeError(f"rule '{name}': {error}") from error
    kept = _count_left(connection)
    return Step(name=name, rule=rule.rule, images=before, dropped=before - kept, missing=missing, kept=kept)


def _count_left(connection: duckdb.DuckDBPyConnection) -> int:
    return int(connection.execute(f"SELECT count(*) FROM images WHERE {LEFT}").fetchall()[0][0])


def _dead_letters(scores: Storage) -> pa.Table:
    """What scoring could not read or decode."""
    files = [scores.read(entry.path) for entry in read_entries(scores, "failed")]
    return pa.concat_tables([FAILED.empty_table(), *(pq.read_table(pa.BufferReader(data)) for data in files)])


def _decisions(connection: duckdb.DuckDBPyConnection, letters: pa.Table) -> Iterator[pa.Table]:
    noted = ("value", "threshold", "duplicate_of", "duplicate_kind", "distance")
    columns = ", ".join(
        [*FACTS, f"{LEFT} AS kept", f'"{DECISION}" AS rule', *(f"__{n} AS {n}" for n in noted)]
    )
    query = f'SELECT {columns} FROM images ORDER BY "{ORDINAL}"'
    for batch in connection.sql(query).to_arrow_reader(PIECE_ROWS):
        yield pa.table(batch).cast(DECISIONS)
    count = letters.num_rows
    rules = [
        f"{row['stage']}: {row['error_type']}" for row in letters.select(["stage", "error_type"]).to_pylist()
    ]
    given = {
        "row_id": letters["row_id"],
        "source_path": letters["path"],
        "source_row": letters["row"],
        "kept": pa.array([False] * count),
        "rule": pa.array(rules, pa.string()),
        "value": letters["message"],
    }
    yield pa.table([given.get(f.name, pa.nulls(count, f.type)) for f in DECISIONS], schema=DECISIONS)


def _pieces(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, PIECE_ROWS at a time."""
    waiting = DECISIONS.empty_table()
    for table in tables:
        waiting = pa.concat_tables([waiting, table])
        while waiting.num_rows >= PIECE_ROWS:
            yield waiting.slice(0, PIECE_ROWS)
            waiting = waiting.slice(PIECE_ROWS)
    if waiting.num_rows:
        yield waiting


def _put(output: Storage, path: str, table: pa.Table) -> ObjectEntry:
    data = parquet_bytes(table)
    output.write(path, data)
    return ObjectEntry.of(path, data, table.num_rows)

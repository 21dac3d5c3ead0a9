"""Prompt tables: checked as a whole before a job starts, then read unit by unit in one canonical form."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.errors import RefusalError
from pipelines.inputs import ParquetInput, find_parquet, open_parquet, read_unit
from pipelines.plan import InputObject, Unit
from pipelines.row_hashes import hash_rows, repeated_hashes, rows_among
from pipelines.storage import Storage
from schemas.prompts import IMAGE, PROMPTS

ROW_HASH_HEX = 32
_BATCH_ROWS = 65_536
_BATCH_BYTES = 64 << 20
_COMPARED_IDS = 1_000_000


class PromptTableError(RefusalError):
    """A prompt table that cannot be run; the message names file, column and row."""


@dataclass(frozen=True, kw_only=True)
class PromptTable:
    """A checked prompt table, small enough to travel to every reading task.

    Attributes:
        storage: Where its files are.
        objects: The files.
        passed_through: Its columns that are not in `PROMPTS`.
        repeats: Where it has no `prompt_id`: for rows that equal earlier ones, by file and row number, how
            many came before. They need ids of their own.
    """

    storage: Storage
    objects: list[InputObject]
    passed_through: list[pa.Field]
    repeats: dict[str, dict[int, int]] = field(default_factory=dict)

    def read(self, unit: Unit) -> pa.Table:
        """The unit's rows: `PROMPTS`' columns in its types, `prompt_id` filled, then those passed through."""
        rows = read_unit(self.storage, unit)
        known = canonical(rows, self.storage.uri_of(unit.path), first_row=unit.row_start)
        if "prompt_id" not in rows.column_names:
            repeats = self.repeats.get(unit.path, {})
            ids = [
                row_hash(row, repeats.get(number, 0))
                for number, row in zip(unit.row_numbers, known.to_pylist(), strict=True)
            ]
            known = known.set_column(known.schema.get_field_index("prompt_id"), "prompt_id", pa.array(ids))
        for other in self.passed_through:
            known = known.append_column(other.name, _plain_text(rows[other.name]))
        return known


def open_prompts(uri: str) -> PromptTable:
    """Check all of a prompt table: Parquet, one file or a folder of them.

    Raises:
        PromptTableError: A file has no `prompt`, a column of a wrong type, a value that its column's type
            cannot hold, other columns than the first file, or an id that is null or repeated.
        PlanError: There is no Parquet there.
    """
    found = find_parquet(uri)
    first: pa.Schema | None = None
    num_rows = 0
    for name, file in _files(found):
        schema = file.schema_arrow
        num_rows += file.metadata.num_rows
        where = found.storage.uri_of(name)
        if "prompt" not in schema.names:
            raise PromptTableError(
                f"{where}: no column 'prompt'; columns are {', '.join(schema.names)}; "
                "rename the one with the texts"
            )
        if repeated := [n for n, times in Counter(schema.names).items() if times > 1]:
            raise PromptTableError(f"{where}: column '{repeated[0]}' is there more than once; rename one")
        if first is not None and {(f.name, f.type) for f in schema} != {(f.name, f.type) for f in first}:
            raise PromptTableError(
                f"{where}: columns differ from those of {found.storage.uri_of(found.objects[0].path)}: "
                f"{_difference(first, schema)}; give all files the same columns"
            )
        first = schema
        to_check = [
            n for n in schema.names if n in PROMPTS.names and schema.field(n).type != PROMPTS.field(n).type
        ]
        for column in to_check:
            for first_row, rows in _batches(file, [column]):
                _cast(rows[column], column, where, first_row)
    assert first is not None  # find_parquet gives at least one file
    passed_through = [
        pa.field(column.name, pa.string() if column.type == pa.string_view() else column.type)
        for column in first
        if column.name not in PROMPTS.names
    ]
    if "prompt_id" in first.names:
        _check_ids(found, num_rows)
        repeats = {}
    else:
        repeats = _repeats(found, num_rows)
    return PromptTable(
        storage=found.storage, objects=found.objects, passed_through=passed_through, repeats=repeats
    )


def canonical(rows: pa.Table, where: str, first_row: int = 0) -> pa.Table:
    """The columns of `PROMPTS` in its types, null where `rows` has none; others are left out."""
    columns = {
        column.name: _cast(rows[column.name], column.name, where, first_row)
        if column.name in rows.column_names
        else pa.nulls(rows.num_rows, column.type)
        for column in PROMPTS
    }
    return pa.table(columns)


def row_hash(row: dict[str, Any], repeat: int) -> str:
    """The id of a row without one: a hash of its values, and of how many equal rows came before."""
    values = {k: _hashable(v) for k, v in row.items() if v is not None and k in PROMPTS.names}
    text = json.dumps([values, repeat] if repeat else [values], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ROW_HASH_HEX]


def _hashable(value: Any) -> Any:
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, dict):
        return {k: _hashable(v) for k, v in value.items()}
    return value


def _files(found: ParquetInput) -> Iterator[tuple[str, pq.ParquetFile]]:
    for item in found.objects:
        with found.storage.open(item.path) as stream:
            yield item.path, open_parquet(stream, found.storage.uri_of(item.path))


def _cast(column: pa.ChunkedArray, name: str, where: str, first_row: int) -> pa.ChunkedArray:
    """The column in its type in `PROMPTS`, where no value changes by it."""
    target = PROMPTS.field(name).type
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not _castable(column.type, name):
        raise PromptTableError(
            f"{where}: column '{name}' is of type {column.type}, first value {_first(column)!r} at row "
            f"{first_row}; it must be {'bytes, a path or a struct of both' if target == IMAGE else target}"
        )
    if target == IMAGE:
        return pa.chunked_array([_image_column(chunk) for chunk in column.chunks], IMAGE)
    try:
        values = column.cast(target)
        values.validate(full=True)  # that text is UTF-8
        return values
    except pa.ArrowInvalid as error:
        for row, value in enumerate(column):
            try:
                shown = value.as_py()
                pa.array([shown], column.type).cast(target)
            except UnicodeDecodeError:
                raise PromptTableError(
                    f"{where}: column '{name}', row {first_row + row}: not UTF-8"
                ) from error
            except pa.ArrowInvalid:
                raise PromptTableError(
                    f"{where}: column '{name}', row {first_row + row}: {shown!r} is no {target}"
                ) from error
        raise


def _plain_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Views of strings as strings: Arrow cannot pick rows of them yet."""
    return column.cast(pa.string()) if column.type == pa.string_view() else column


def _castable(source: pa.DataType, name: str) -> bool:
    """Whether values of `source` may be values of the column, looked at one by one."""
    types, target = pa.types, PROMPTS.field(name).type
    text = types.is_string(source) or types.is_large_string(source) or types.is_string_view(source)
    data = types.is_binary(source) or types.is_large_binary(source)
    number = types.is_integer(source) or types.is_floating(source)
    if types.is_null(source):
        return True
    if target == IMAGE:
        names = {source.field(i).name for i in range(source.num_fields)} if types.is_struct(source) else set()
        return text or data or (bool(names) and names <= {"bytes", "path"})
    if types.is_string(target):
        return text or (name == "prompt_id" and types.is_integer(source))
    return number


def _image_column(chunk: pa.Array) -> pa.Array:
    if pa.types.is_struct(chunk.type) or pa.types.is_null(chunk.type):
        fields = {f.name: pc.struct_field(chunk, f.name) for f in chunk.type} if chunk.type.num_fields else {}
        parts = [fields.get(f.name, pa.nulls(len(chunk), f.type)).cast(f.type) for f in IMAGE]
    elif pa.types.is_binary(chunk.type) or pa.types.is_large_binary(chunk.type):
        parts = [chunk.cast(pa.binary()), pa.nulls(len(chunk), pa.string())]
    else:
        parts = [pa.nulls(len(chunk), pa.binary()), chunk.cast(pa.string())]
    return pa.StructArray.from_arrays(parts, fields=list(IMAGE), mask=chunk.is_null())


def _check_ids(found: ParquetInput, num_rows: int) -> None:
    """That every row has an id of its own."""
    repeated = repeated_hashes((hash_rows(ids) for _, _, ids in _ids(found)), num_rows)
    # ids that repeat are a mistake: some of them are enough to name one
    repeated, seen = repeated[:_COMPARED_IDS], dict[str, tuple[str, int]]()
    for where, first_row, ids in _ids(found) if len(repeated) else ():
        rows = rows_among(hash_rows(ids), repeated)
        for row, identifier in zip(rows + first_row, ids["prompt_id"].take(rows).to_pylist(), strict=True):
            if identifier in seen:
                raise PromptTableError(
                    f"{where}: column 'prompt_id', row {row}: {identifier!r} is already the id of "
                    f"{seen[identifier][0]}, row {seen[identifier][1]}; ids must be unique"
                )
            seen[identifier] = where, row


def _ids(found: ParquetInput) -> Iterator[tuple[str, int, pa.Table]]:
    """The ids of all rows; for each batch the file's URI, and the number of its first row in the file."""
    for name, file in _files(found):
        where = found.storage.uri_of(name)
        for first_row, rows in _batches(file, ["prompt_id"]):
            ids = _cast(rows["prompt_id"], "prompt_id", where, first_row)
            if ids.null_count:
                row = first_row + pc.index(ids.is_null(), True).as_py()
                raise PromptTableError(f"{where}: column 'prompt_id', row {row}: null; every row needs an id")
            yield where, first_row, pa.table({"prompt_id": ids})


def _repeats(found: ParquetInput, num_rows: int) -> dict[str, dict[int, int]]:
    """See `PromptTable.repeats`."""
    repeated = repeated_hashes((hash_rows(rows) for _, _, rows in _known(found)), num_rows)
    seen: Counter[str] = Counter()
    repeats: dict[str, dict[int, int]] = {}
    for name, first_row, known in _known(found) if len(repeated) else ():
        rows = rows_among(hash_rows(known), repeated)
        for row, values in zip((rows + first_row).tolist(), known.take(rows).to_pylist(), strict=True):
            digest = row_hash(values, 0)
            if seen[digest]:
                repeats.setdefault(name, {})[row] = seen[digest]
            seen[digest] += 1
    return repeats


def _known(found: ParquetInput) -> Iterator[tuple[str, int, pa.Table]]:
    """All rows in their canonical form; for each batch the file, and the number of its first row in it."""
    for name, file in _files(found):
        for first_row, rows in _batches(file, PROMPTS.names):
            yield name, first_row, canonical(rows, found.storage.uri_of(name), first_row)


def _batches(file: pq.ParquetFile, names: Collection[str]) -> Iterator[tuple[int, pa.Table]]:
    """Those of these columns that the file has, some rows at a time, with the number of the first."""
    columns = [name for name in file.schema_arrow.names if name in names]
    if file.metadata.num_rows == 0:
        yield 0, file.schema_arrow.empty_table().select(columns)
    first_row = 0
    for number in range(file.num_row_groups):  # at once they would be fetched ahead, all of them
        group = file.metadata.row_group(number)
        num_rows = _BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)
        batch_size = min(max(num_rows, 1), _BATCH_ROWS)
        for batch in file.iter_batches(batch_size, row_groups=[number], columns=columns):
            yield first_row, pa.table(batch)
            first_row += batch.num_rows


def _first(column: pa.ChunkedArray) -> Any:
    return column[0].as_py() if len(column) else None


def _difference(first: pa.Schema, other: pa.Schema) -> str:
    before, after = ({f"{f.name} {f.type}" for f in schema} for schema in (first, other))
    parts = [f"without {', '.join(sorted(before - after))}"] if before - after else []
    parts += [f"with {', '.join(sorted(after - before))}"] if after - before else []
    return " and ".join(parts)

"""One type for a column whose type differs from file to file, and its values in that type."""

import json
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc


def unified_fields(schemas: Iterable[Iterable[pa.Field]]) -> list[pa.Field]:
    """The columns that any of the files has, in the order in which they are met first."""
    types: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            kind = plain(field.type)
            before = types.setdefault(field.name, kind)
            if before != kind:
                types[field.name] = _common(before, kind)
    return [pa.field(name, pa.string() if pa.types.is_null(t) else t) for name, t in types.items()]


def plain(kind: pa.DataType) -> pa.DataType:
    """The type without the choices of layout that mean nothing: views, dictionaries, 64-bit offsets."""
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if isinstance(kind, pa.BaseExtensionType):
        return plain(kind.storage_type)
    if (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    ):
        return pa.list_(plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, plain(field.type)) for field in kind])
    return kind


def as_type(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """The column's values in a type that `unified_fields` gave for it."""
    if column.type == kind:
        return column
    if pa.types.is_string(kind) and pa.types.is_nested(plain(column.type)):
        return pa.chunked_array([pa.array(map(_text, column.to_pylist()), kind)])
    if pa.types.is_string(kind) and pa.types.is_binary(plain(column.type)):
        return pa.chunked_array([pa.array([v and v.hex() for v in column.to_pylist()], kind)])
    if pa.types.is_nested(kind):  # Arrow casts only some of them
        return pa.chunked_array([pa.array(column.to_pylist(), kind)])
    return column.cast(kind, safe=False)  # 64-bit integers among floats lose digits


def texts(column: pa.ChunkedArray) -> tuple[list[str | None], list[int]]:
    """The values of a text column, and the indices of those that are not UTF-8, which are None here.

    Arrow believes a file that says its bytes are text.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values: list[str | None] = []
    wrong = []
    for number, data in enumerate(pc.cast(column, pa.large_binary()).to_pylist()):
        try:
            values.append(None if data is None else data.decode())
        except UnicodeDecodeError:
            values.append(None)
            wrong.append(number)
    return values, wrong


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if pa.types.is_null(one):
        return other
    if pa.types.is_null(other):
        return one
    if _is_number(one) and _is_number(other):
        fits = not (pa.types.is_uint64(one) or pa.types.is_uint64(other))
        integers = pa.types.is_integer(one) and pa.types.is_integer(other)
        return pa.int64() if integers and fits else pa.float64()
    return pa.string()


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _text(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=str)

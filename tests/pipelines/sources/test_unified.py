"""Columns whose type differs from file to file get one that holds all of their values."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipelines.sources.unified import as_type, unified_fields

VIEWS = pa.struct([("a", pa.string_view()), ("b", pa.list_(pa.large_string()))])


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        (pa.int8(), pa.int8(), pa.int8()),
        (pa.int8(), pa.uint32(), pa.int64()),
        (pa.int8(), pa.float32(), pa.float64()),
        (pa.uint64(), pa.int64(), pa.float64()),
        (pa.string(), pa.large_string(), pa.string()),
        (pa.string_view(), pa.dictionary(pa.int8(), pa.string()), pa.string()),
        (pa.binary_view(), pa.large_binary(), pa.binary()),
        (pa.null(), pa.int16(), pa.int16()),
        (pa.null(), pa.null(), pa.string()),
        (pa.bool_(), pa.int64(), pa.string()),
        (pa.timestamp("s"), pa.timestamp("us"), pa.string()),
        (pa.list_(pa.int64()), pa.large_list(pa.int64()), pa.list_(pa.int64())),
        (pa.list_(pa.int64()), pa.list_(pa.string()), pa.string()),
        (VIEWS, VIEWS, pa.struct([("a", pa.string()), ("b", pa.list_(pa.string()))])),
    ],
)
def test_types_are_unified(one: pa.DataType, other: pa.DataType, common: pa.DataType) -> None:
    for first, second in ((one, other), (other, one)):
        assert unified_fields([pa.schema({"x": first}), pa.schema({"x": second})]) == [pa.field("x", common)]


def test_columns_keep_the_order_in_which_they_are_met() -> None:
    schemas = [pa.schema({"b": pa.int8(), "a": pa.int8()}), pa.schema({"c": pa.int8(), "a": pa.int8()})]
    assert [field.name for field in unified_fields(schemas)] == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        (pa.array([1, None]), pa.string(), ["1", None]),
        (pa.array([True, None]), pa.string(), ["true", None]),
        (pa.array([1.5]), pa.string(), ["1.5"]),
        (pa.array([b"\x00\xff", None, b""]), pa.string(), ["00ff", None, ""]),
        (pa.array([{"a": "\u00e9"}, None]), pa.string(), ['{"a": "\u00e9"}', None]),
        (pa.array([[b"x"]]), pa.string(), ["[\"b'x'\"]"]),
        (pa.array([(1 << 53) + 1]), pa.float64(), [float(1 << 53)]),
        (pa.array([1], pa.timestamp("s")), pa.string(), ["1970-01-01 00:00:01"]),
        (pa.array([None, None]), pa.int16(), [None, None]),
        (
            pa.array([{"a": "x", "b": ["y"]}, None], VIEWS),
            pa.struct([("a", pa.string()), ("b", pa.list_(pa.string()))]),
            [{"a": "x", "b": ["y"]}, None],
        ),
    ],
)
def test_values_get_the_common_type(column: pa.Array, kind: pa.DataType, values: list[object]) -> None:
    found = as_type(pa.chunked_array([column]), kind)
    assert found.type == kind
    assert found.to_pylist() == values

"""Equal rows have equal hashes, however their table was cut; rows that may be equal are found by them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.row_hashes import hash_rows, repeated_hashes, rows_among

PAIR = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
COLUMNS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "text": (pa.string(), ["a", "b", "", None]),
    "whole": (pa.int64(), [7, 2**62, 2**62 + 1, None]),
    "small": (pa.int32(), [7, 1, -1, None]),
    "real": (pa.float64(), [0.5, float("inf"), -1.0, None]),
    "pair": (
        PAIR,
        [{"bytes": b"\xff", "path": None}, {"bytes": None, "path": "x"}, {"bytes": b"", "path": "x"}, None],
    ),
}


def _table(rows: list[int]) -> pa.Table:
    return pa.table(
        {name: pa.array([values[row] for row in rows], kind) for name, (kind, values) in COLUMNS.items()}
    )


def test_a_rows_hash_does_not_depend_on_the_rows_beside_it() -> None:
    together = hash_rows(_table([0, 1, 2, 3, 1]))
    alone = np.concatenate([hash_rows(_table([row])) for row in (0, 1, 2, 3, 1)])
    assert together.tolist() == alone.tolist()
    assert len(set(together.tolist())) == 4


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_counts(name: str) -> None:
    kind, values = COLUMNS[name]
    column = pa.array(values, kind)
    assert len(set(hash_rows(pa.table({name: column})).tolist())) == 4
    beside = pa.table({"other": ["same"] * 4, name: column})
    assert len(set(hash_rows(beside).tolist())) == 4


def test_the_same_value_in_another_column_is_another_row() -> None:
    swapped = pa.table({"one": ["a", "b", "a", None], "two": ["b", "a", None, "a"]})
    assert len(set(hash_rows(swapped).tolist())) == 4


def test_all_nans_are_equal() -> None:
    bits = np.array([0x7FF8000000000000, 0x7FF8000000000001], np.uint64)
    assert len(set(hash_rows(pa.table({"real": bits.view(np.float64)})).tolist())) == 1


def test_repeated_hashes_are_found_across_batches() -> None:
    batches = [np.array(batch, np.uint64) for batch in ([5, 1, 9], [], [1, 2**64 - 1], [5, 5, 2**64 - 1])]
    assert repeated_hashes(batches, 8).tolist() == [1, 5, 2**64 - 1]
    assert repeated_hashes([], 0).tolist() == []


def test_rows_with_these_hashes_are_named() -> None:
    hashes = np.array([7, 3, 9, 3, 10], np.uint64)
    assert rows_among(hashes, np.array([3, 9], np.uint64)).tolist() == [1, 2, 3]
    assert rows_among(hashes, np.array([], np.uint64)).tolist() == []
    assert rows_among(hashes[:0], np.array([3], np.uint64)).tolist() == []

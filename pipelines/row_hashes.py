"""Find rows that may be equal in a table too long to compare: by hashes, at eight bytes a row."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray


def hash_rows(table: pa.Table) -> NDArray[np.uint64]:
    """A hash of each row: equal rows have equal ones, in whichever table of the same schema they are.

    Args:
        table: Columns of text, bytes or numbers, or structs of these.
    """
    hashes = np.zeros(table.num_rows, np.uint64)
    for number, column in enumerate(table.flatten().columns):
        if column.null_count < table.num_rows:  # nulls add nothing
            hashes += _hash_values(column) * np.uint64(2 * number + 1)
    return hashes


def repeated_hashes(batches: Iterable[NDArray[np.uint64]], num_rows: int) -> NDArray[np.uint64]:
    """The hashes that more than one row has, ascending.

    Args:
        batches: The hashes of all rows.
        num_rows: How many there are.
    """
    hashes = np.empty(num_rows, np.uint64)
    start = 0
    for batch in batches:
        hashes[start : start + len(batch)] = batch
        start += len(batch)
    hashes.sort()  # in place: for a hundred million rows they are 800 MB
    return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])


def rows_among(hashes: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The numbers of the rows whose hash is one of `wanted`, which are ascending."""
    places = np.searchsorted(wanted, hashes)
    return np.flatnonzero(wanted.take(places, mode="clip") == hashes) if len(wanted) else places[:0]


def _hash_values(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    if pa.types.is_floating(column.type):
        values = np.nan_to_num(column.fill_null(0).to_numpy())  # there are many NaNs, all of them equal
    elif pa.types.is_integer(column.type):
        values = column.fill_null(0).to_numpy()
    else:
        values = column.to_numpy()
    hashes = pd.util.hash_array(values, categorize=False)
    return np.where(column.is_valid().to_numpy(), hashes, np.uint64(0))

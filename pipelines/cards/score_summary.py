"""How the scores of a dataset are distributed: read by its manifest, without the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.inputs import ParquetInput, read_batches

_VALUES = pa.schema([pa.field("score", pa.string()), pa.field("value", pa.float64())])
_SUMMARY = """
SELECT score, count(value), count(*) - count(value), avg(value), min(value), max(value),
    approx_quantile(value, [0.05, 0.5, 0.95])
FROM incoming GROUP BY score
"""


@dataclass(frozen=True, kw_only=True)
class ScoreSummary:
    """One score over all rows; numbers are None where no row has it.

    Attributes:
        name: Of its column.
        count: Rows that have it.
        missing: Rows where it is null or not finite.
        mean: Of those that have it, as are the others.
        min: The least.
        low: The quantile of 5 %, estimated by a t-digest, as are the next two.
        median: The quantile of 50 %.
        high: The quantile of 95 %.
        max: The greatest.
    """

    name: str
    count: int
    missing: int
    mean: float | None
    min: float | None
    low: float | None
    median: float | None
    high: float | None
    max: float | None


def score_summaries(found: ParquetInput, names: Sequence[str]) -> list[ScoreSummary]:
    """Summaries of these columns, in order: the same for the same dataset."""
    if not names:
        return []
    # estimates depend on the order of values, and with several threads that is any
    with duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": "false"}) as connection:
        connection.register("incoming", pa.RecordBatchReader.from_batches(_VALUES, _values(found, names)))
        rows = {row[0]: row[1:] for row in connection.execute(_SUMMARY).fetchall()}
    summaries = []
    for name in names:
        count, missing, mean, least, greatest, quantiles = rows[name]
        low, median, high = quantiles or (None, None, None)
        summaries.append(
            ScoreSummary(
                name=name,
                count=count,
                missing=missing,
                mean=mean,
                min=least,
                low=low,
                median=median,
                high=high,
                max=greatest,
            )
        )
    return summaries


def _values(found: ParquetInput, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """All scores in the order of the manifest, some rows at a time, name by name."""
    nothing = pa.scalar(None, _VALUES.field("value").type)
    for batch in read_batches(found, names):
        for name in names:
            values = batch[name].cast(nothing.type)
            values = pc.if_else(pc.is_finite(values), values, nothing)
            yield pa.record_batch([pa.repeat(name, len(values)), values], schema=_VALUES)

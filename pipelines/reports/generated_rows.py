"""The rows of a generated set as a table of DuckDB, without images and tokens, and which of them to show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import numpy as np

from pipelines.inputs import ParquetInput
from pipelines.private_database import ORDINAL, numbered_batches, private_database, quoted

NUM_SAMPLES, RUN_ROWS = 96, 8
"""Images that are shown whatever their scores, and how many of them lie beside each other in a shard."""
NUM_EXTREMES, NUM_PROMPTS = 8, 6
"""Best and worst images of a score, and ranked prompts, that are shown."""
SHOWN_ENDS = 4
"""Of a prompt's images, where there are more than twice as many, so many of the best and of the worst."""
NUM_BINS = 40
_KEYS = ("sample_id", "prompt_id")


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """The values of a score.

    Attributes:
        name: The column.
        count: Finite values.
        mean: Of them.
        quantiles: At 0, 5, 50, 95 and 100 %.
        edges: Of the bins of its histogram.
        counts: Of the bins.
    """

    name: str
    count: int
    mean: float
    quantiles: list[float]
    edges: list[float]
    counts: list[int]


@dataclass(frozen=True, kw_only=True)
class RankedPrompt:
    """A prompt whose images were ranked.

    Attributes:
        ordinals: Of its images, the best first.
        scores: By which they were ranked.
    """

    ordinals: list[int]
    scores: list[float | None]

    def shown(self) -> list[tuple[int, int, float | None]]:
        """Rank, ordinal and score of each image; of many those of the best and the worst."""
        ranked = list(zip(range(len(self.ordinals)), self.ordinals, self.scores, strict=True))
        return ranked if len(ranked) <= 2 * SHOWN_ENDS else ranked[:SHOWN_ENDS] + ranked[-SHOWN_ENDS:]


@contextmanager
def generated_rows(
    shards: ParquetInput, scores: Sequence[str], *, ranked: bool
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the table `rows`: ids, scores, where asked for `rank`, and ORDINAL.

    A score that is not finite is null: it lies in no bin, and JSON has no such number.
    """
    with private_database() as connection:
        names = [*_KEYS, *scores, *(["rank"] if ranked else [])]
        connection.register("incoming", numbered_batches(shards, names))
        finite = [f"if(isfinite(CAST({c} AS DOUBLE)), {c}, NULL) AS {c}" for c in map(quoted, scores)]
        replaced = f"REPLACE ({', '.join(finite)}) " if finite else ""
        connection.execute(f"CREATE TABLE rows AS SELECT * {replaced}FROM incoming")
        connection.unregister("incoming")
        yield connection


def distribution(connection: duckdb.DuckDBPyConnection, score: str) -> Distribution | None:
    """Of a score; None where it has no values."""
    column = quoted(score)
    count, mean, quantiles = connection.execute(
        f"SELECT count({column}), avg({column}), quantile_cont({column}, [0, .05, .5, .95, 1]) FROM rows"
    ).fetchall()[0]
    if not count:
        return None
    low, high = float(quantiles[0]), float(quantiles[-1])
    edges = np.linspace(low, high if high > low else low + 1, NUM_BINS + 1)
    found = connection.execute(
        f"SELECT greatest(least(floor(({column} - ?) / ?)::INT, {NUM_BINS - 1}), 0) AS bin, count(*) "
        f"FROM rows WHERE {column} IS NOT NULL GROUP BY bin",
        [low, float(edges[1] - edges[0])],
    ).fetchall()
    counts = dict(found)
    return Distribution(
        name=score,
        count=count,
        mean=mean,
        quantiles=[float(value) for value in quantiles],
        edges=edges.tolist(),
        counts=[counts.get(number, 0) for number in range(NUM_BINS)],
    )


def extremes(connection: duckdb.DuckDBPyConnection, score: str) -> tuple[list[int], list[int]]:
    """Ordinals of the images with the highest and with the lowest values, the most extreme first."""
    column = quoted(score)

    def first(direction: str) -> list[int]:
        rows = connection.execute(
            f"SELECT {ORDINAL} FROM rows WHERE {column} IS NOT NULL "
            f"ORDER BY {column} {direction}, sample_id LIMIT {NUM_EXTREMES}"
        ).fetchall()
        return [ordinal for (ordinal,) in rows]

    return first("DESC"), first("ASC")


def sample(connection: duckdb.DuckDBPyConnection) -> list[int]:
    """Ordinals of images that are as good as random, always the same: whole runs, to make few reads.

    Of each run of RUN_ROWS neighbours the least sample id decides: it is a hash.
    """
    rows = connection.execute(
        f"SELECT {ORDINAL} FROM rows JOIN (SELECT {ORDINAL} // {RUN_ROWS} AS run FROM rows GROUP BY run "
        f"ORDER BY min(sample_id) LIMIT {NUM_SAMPLES // RUN_ROWS}) ON {ORDINAL} // {RUN_ROWS} = run "
        f"ORDER BY {ORDINAL}"
    ).fetchall()
    return [ordinal for (ordinal,) in rows]


def mean_by_rank(connection: duckdb.DuckDBPyConnection, score: str) -> dict[str, float]:
    """The mean of a score over all prompts, by the images' rank."""
    rows = connection.execute(
        f'SELECT "rank", avg({quoted(score)}) AS mean FROM rows GROUP BY "rank" '
        'HAVING mean IS NOT NULL ORDER BY "rank" LIMIT 64'
    ).fetchall()
    return {f"rank {rank}": mean for rank, mean in rows}


def widest_prompts(connection: duckdb.DuckDBPyConnection, score: str) -> list[RankedPrompt]:
    """The prompts whose best and worst images are the furthest apart."""
    rows = connection.execute(
        f'SELECT list({ORDINAL} ORDER BY "rank"), list({quoted(score)} ORDER BY "rank") FROM rows '
        f"GROUP BY prompt_id HAVING count(*) > 1 "
        f"ORDER BY max({quoted(score)}) - min({quoted(score)}) DESC NULLS LAST, prompt_id LIMIT {NUM_PROMPTS}"
    ).fetchall()
    return [RankedPrompt(ordinals=ordinals, scores=scores) for ordinals, scores in rows]

"""Charts of the columns of scores: all images, those that a selection keeps, and where its rules cut."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import duckdb
import numpy as np
import pyarrow as pa

from pipelines.pages.charts import Chart, Threshold, bar_chart, heatmap, histogram, line_chart
from pipelines.private_database import quoted
from pipelines.reports.curation_tables import counts_of
from schemas.images import IMAGE_FACTS

NUM_BINS = 40
MAX_COLUMNS = 36
"""Columns that are drawn; tables of others' data may have thousands."""
_MEASURES = ("min_side", "aspect", "size_bytes", "bytes_per_pixel")
"""Facts of an image whose distribution is of interest."""
_SIDES = (0, 64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192)
_ASPECTS = {
    "under 1:3": 1 / 3,
    "1:3 to 1:2": 1 / 2,
    "1:2 to 2:3": 2 / 3,
    "2:3 to 9:10": 0.9,
    "about 1:1": 10 / 9 + 1e-6,
    "10:9 to 3:2": 1.5,
    "3:2 to 2:1": 2.0,
    "2:1 to 3:1": 3.0,
    "over 3:1": np.inf,
}
_CUT_OFF, _TAIL = 0.005, 1.0
_LOG_RATIO = 200.0
"""Between the greatest and the least of nearly all values, from which on steps are those of a logarithm."""


@dataclass(frozen=True, kw_only=True)
class _Bins:
    """How values are cut into bins.

    Attributes:
        edges: One more than bins, ascending.
        is_log: Whether they are equally wide on a logarithmic axis, else on a plain one.
        is_all: Whether no value lies outside; what does is in the outermost bins.
    """

    edges: list[float]
    is_log: bool
    is_all: bool

    @property
    def number(self) -> str:
        """The bin of a value __x, in SQL."""
        low, high, count = self.edges[0], self.edges[-1], len(self.edges) - 1
        place = f"(__x - {low!r}) / {(high - low) / count!r}"
        if self.is_log:
            place = f"ln(greatest(__x, {low!r}) / {low!r}) / {np.log(high / low).item() / count!r}"
        return f"greatest(least(floor({place}), {count - 1}), 0)::INT"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the images, drawn in front of all.

    Attributes:
        name: What they are called.
        condition: Which they are, in SQL over `images`.
    """

    name: str
    condition: str


def drawn_columns(schema: pa.Schema, first: Sequence[str]) -> list[str]:
    """The columns of numbers to draw: those of rules, the measures of an image, the scores, others.

    Args:
        schema: Of the scores.
        first: Those that rules look at.
    """
    of_numbers = {
        field.name.lower(): field.name
        for field in schema
        if (pa.types.is_floating(field.type) or pa.types.is_integer(field.type))
        and not pa.types.is_uint64(field.type)  # perceptual hashes
    }
    after = [name for name in of_numbers.values() if name not in IMAGE_FACTS.names]
    names = [name for name in (*first, *_MEASURES, *after) if name in of_numbers.values()]
    return list(dict.fromkeys(names))[:MAX_COLUMNS]


def score_chart(
    connection: duckdb.DuckDBPyConnection,
    column: str,
    thresholds: Sequence[Threshold] = (),
    part: Part | None = None,
    title: str = "",
) -> Chart | None:
    """The histogram of a column; None where no image has a value.

    The outermost half percents that lie far out are in the outer bars.
    """
    spread = _spread(connection, column)
    if spread is None:
        return None
    bins = _bins(spread, [line.value for line in thresholds])
    drawn = [line for line in thresholds if bins.edges[0] <= line.value <= bins.edges[-1]]
    counts, chosen = _counts(connection, column, bins, ["true", part.condition if part else "false"])
    notes = [f"{line.label} lies outside" for line in thresholds if line not in drawn]
    if not bins.is_all:
        notes.append(f"from {spread.least:.4g} to {spread.most:.4g}: the outer bars have what lies beyond")
    if spread.missing:
        notes.append(f"{spread.missing:,} without a value")
    chart = histogram(
        title=title or column,
        label=title or column,
        edges=bins.edges,
        counts=counts,
        thresholds=drawn,
        part=(part.name, chosen) if part else None,
        logarithmic=bins.is_log,
    )
    return replace(chart, note="; ".join(notes))


def compared_chart(
    connection: duckdb.DuckDBPyConnection, column: str, groups: Mapping[str, str]
) -> Chart | None:
    """How a column's values are spread in each of some groups; None where no image has a value.

    Args:
        connection: With the tables.
        column: The column.
        groups: By name the condition in SQL over `images`.
    """
    spread = _spread(connection, column)
    if spread is None:
        return None
    bins = _bins(spread, ())
    places = [(low + high) / 2 for low, high in pairwise(bins.edges)]
    counted = zip(groups, _counts(connection, column, bins, list(groups.values())), strict=True)
    series = {
        name: [(place, count / sum(counts)) for place, count in zip(places, counts, strict=True)]
        for name, counts in counted
        if sum(counts)
    }
    return line_chart(title=column, x=column, y="share of the group", series=series) if series else None


def size_chart(connection: duckdb.DuckDBPyConnection) -> Chart:
    """How many images are of which width and height, in steps."""
    steps = list(pairwise([*_SIDES, 1 << 62]))
    width, height = (_step_of(name) for name in ("width", "height"))
    rows = connection.execute(
        f"SELECT {width} AS w, {height} AS h, count(*) FROM scored GROUP BY w, h"
    ).fetchall()
    found = {(w, h): images for w, h, images in rows}
    names = [f"{low}+" if high > _SIDES[-1] else f"{low}-{high - 1}" for low, high in steps]
    across, up = ([pair[axis] for pair in found] for axis in (0, 1))
    counts = {
        (names[w], names[h]): found.get((w, h), 0)
        for h in range(max(up, default=0), min(up, default=0) - 1, -1)
        for w in range(min(across, default=0), max(across, default=0) + 1)
    }
    return heatmap(title="Width and height", x="width in pixels", y="height in pixels", counts=counts)


def aspect_chart(connection: duckdb.DuckDBPyConnection) -> Chart:
    """How many images are of which aspect."""
    whens = " ".join(
        f"WHEN aspect < {edge} THEN {number}"
        for number, edge in enumerate(_ASPECTS.values())
        if edge < np.inf
    )
    rows = connection.execute(
        f"SELECT CASE {whens} ELSE {len(_ASPECTS) - 1} END, count(*) FROM scored GROUP BY 1"
    ).fetchall()
    counts = dict(rows)
    values = {name: counts.get(number, 0) for number, name in enumerate(_ASPECTS)}
    return bar_chart(title="Aspect, width to height", label="images", values=values)


def kind_charts(connection: duckdb.DuckDBPyConnection) -> list[Chart]:
    """Formats and modes."""
    return [
        bar_chart(title="Format of the file", label="images", values=counts_of(connection, "format")),
        bar_chart(title="Mode of the pixels", label="images", values=counts_of(connection, "mode")),
    ]


@dataclass(frozen=True, kw_only=True)
class _Spread:
    """Where the values of a column lie, infinite ones left out.

    Attributes:
        low: Value that nearly all are above.
        high: Value that nearly all are below.
        least: Of all values.
        most: Of all values.
        missing: Rows without a value.
        is_whole: Whether all values are whole numbers.
    """

    low: float
    high: float
    least: float
    most: float
    missing: int
    is_whole: bool


def _spread(connection: duckdb.DuckDBPyConnection, column: str) -> _Spread | None:
    low, high, least, most, count, is_whole = connection.execute(
        f"SELECT quantile_cont(x, {_CUT_OFF}), quantile_cont(x, {1 - _CUT_OFF}), min(x), max(x), count(x), "
        f"bool_and(x = floor(x)) FROM (SELECT CAST({quoted(column)} AS DOUBLE) AS x FROM scored) "
        "WHERE isfinite(x)"
    ).fetchall()[0]
    if not count:
        return None
    total = connection.execute("SELECT count(*) FROM scored").fetchall()[0][0]
    return _Spread(low=low, high=high, least=least, most=most, missing=total - count, is_whole=is_whole)


def _counts(
    connection: duckdb.DuckDBPyConnection, column: str, bins: _Bins, conditions: Sequence[str]
) -> list[list[int]]:
    """Of the images that fulfil each condition, how many are in each bin."""
    counted = ", ".join(f"count(*) FILTER ({condition})" for condition in conditions)
    found = connection.execute(
        f"SELECT {bins.number} AS __bin, {counted} FROM "
        f"(SELECT CAST({quoted(column)} AS DOUBLE) AS __x, * FROM images) WHERE isfinite(__x) GROUP BY __bin"
    ).fetchall()
    counts = [[0] * (len(bins.edges) - 1) for _ in conditions]
    for number, *images in found:
        for of, count in zip(counts, images, strict=True):
            of[number] = count
    return counts


def _bins(spread: _Spread, cuts: Sequence[float]) -> _Bins:
    """Around nearly all values, and the cuts near them."""
    low, high, least, most = spread.low, spread.high, spread.least, spread.most
    if low > 0 and high / low >= _LOG_RATIO:
        near = [cut for cut in cuts if low / 10 <= cut <= high * 10]
        edges = np.geomspace(min([low, *near]), max([high, *near]), NUM_BINS + 1).tolist()
        return _Bins(edges=edges, is_log=True, is_all=edges[0] <= least and most <= edges[-1])
    tail = (high - low) * _TAIL
    low, high = max(least, low - tail), min(most, high + tail)
    is_all, span = low == least and high == most, high - low or abs(high) or 1.0
    near = [cut for cut in cuts if low - span <= cut <= high + span]
    low, high = min([low, *near]), max([high, *near])
    if spread.is_whole and high - low <= NUM_BINS:
        edges = [number - 0.5 for number in range(math.floor(low), math.ceil(high) + 2)]
    else:
        wide = (high - low or span) / 2
        middle = (low + high) / 2
        edges = np.linspace(middle - wide, middle + wide, NUM_BINS + 1).tolist()
    return _Bins(edges=edges, is_log=False, is_all=is_all)


def _step_of(name: str) -> str:
    whens = " ".join(f"WHEN {name} < {edge} THEN {number}" for number, edge in enumerate(_SIDES[1:]))
    return f"CASE {whens} ELSE {len(_SIDES) - 1} END"

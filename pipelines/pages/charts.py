"""Charts of a page: a Vega-Lite specification each, with its numbers as a table for who cannot see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

AnyChart = alt.Chart | alt.LayerChart | alt.FacetChart
HEIGHT = 190
_BAD, _MUTED = "var(--bad)", "var(--muted)"
"""Replaced by the page's own colours when it is drawn."""
_BAR_HEIGHT = 24
_LABEL_LIMIT = 220
_ROOM_FOR_NUMBERS = 1.18
"""An axis' length, as a multiple of the longest bar's."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart.

    Attributes:
        title: Above it.
        description: What it shows, in words.
        specification: In Vega-Lite.
        head: Names of the table's columns.
        rows: The table.
        note: Below it; what a reader must know besides.
    """

    title: str
    description: str
    specification: dict[str, Any]
    head: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A value at which something is decided.

    Attributes:
        value: On the horizontal axis.
        label: What it is, such as "min".
    """

    value: float
    label: str


def histogram(
    *,
    title: str,
    label: str,
    edges: Sequence[float],
    counts: Sequence[int],
    thresholds: Sequence[Threshold] = (),
    part: tuple[str, Sequence[int]] | None = None,
    logarithmic: bool = False,
) -> Chart:
    """How many values lie between each two of the edges; thresholds are lines across.

    Args:
        title: Above it.
        label: Of the values.
        edges: One more than counts, ascending.
        counts: Values in each bin.
        thresholds: Lines to draw.
        part: A part of them, drawn in front of all: its name, and how many are in each bin.
        logarithmic: Whether the horizontal axis is.
    """
    counted = [("all", counts)] if part is None else [("all", counts), part]
    bins = [
        {"from": low, "to": high, "count": count, "of": name}
        for name, of in counted
        for low, high, count in zip(edges[:-1], edges[1:], of, strict=True)
    ]
    encoded: dict[str, Any] = {}
    scale = alt.Scale(type="log", nice=False) if logarithmic else alt.Scale(zero=False)
    unit = edges[1] - edges[0] == 1
    axis = alt.Axis(tickMinStep=1, format=",d") if unit else alt.Axis(labelOverlap=True, tickCount=8)
    if part is not None:
        names = [name for name, _ in counted]
        encoded["opacity"] = alt.Opacity("of:N", title=None, scale=alt.Scale(domain=names, range=[0.35, 1]))
    chart: AnyChart = (
        _of(bins)
        .mark_bar(binSpacing=1)
        .encode(
            x=alt.X("from:Q", bin="binned", title=label, scale=scale, axis=axis),
            x2="to:Q",
            y=alt.Y("count:Q", title=None, stack=None, axis=alt.Axis(tickMinStep=1)),
            tooltip=[_number("from"), _number("to"), alt.Tooltip("count:Q", format=","), "of:N"],
            **encoded,
        )
    )
    if thresholds:
        chart = alt.layer(chart, *_rules(thresholds, _BAD))
    said = f"Histogram of {label}: {sum(counts):,} values from {edges[0]:g} to {edges[-1]:g}"
    said += "".join(f"; {line.label} at {line.value:g}" for line in thresholds)
    return Chart(
        title=title,
        description=f"{said}.",
        specification=_specification(chart.properties(width="container", height=HEIGHT)),
        head=("from", "to", *(["count"] if part is None else [name for name, _ in counted])),
        rows=[
            (f"{low:.4g}", f"{high:.4g}", *(f"{count:,}" for count in of))
            for low, high, *of in zip(edges[:-1], edges[1:], *(of for _, of in counted), strict=True)
        ],
    )


def bar_chart(*, title: str, label: str, values: Mapping[str, float]) -> Chart:
    """A bar for each name, in the order given.

    Args:
        title: Above it.
        label: Of the values.
        values: By name.
    """
    rows = [{"name": name, "value": value} for name, value in values.items()]
    base = _of(rows).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=_LABEL_LIMIT)),
        x=alt.X("value:Q", title=label),
        tooltip=["name:N", alt.Tooltip("value:Q", format=",", title=label)],
    )
    numbers = base.mark_text(align="left", dx=4).encode(text=alt.Text("value:Q", format=",.4~g"))
    chart = alt.layer(base.mark_bar(), numbers)
    return Chart(
        title=title,
        description=f"Bars, {label}: " + "; ".join(f"{name} {value:,.4g}" for name, value in values.items()),
        specification=_specification(
            chart.properties(width="container", height=max(len(rows), 2) * _BAR_HEIGHT)
        ),
        head=("", label),
        rows=[(name, f"{value:,.6g}") for name, value in values.items()],
    )


def stacked_bars(
    *,
    title: str,
    label: str,
    parts: Sequence[str],
    values: Mapping[str, Sequence[int]],
    colours: Sequence[str] = ("accent", "bad"),
) -> Chart:
    """A bar for each name, cut into its parts; the first part's number stands behind the bar.

    Args:
        title: Above it.
        label: Of the values.
        parts: What the parts are.
        values: Of each name the size of each part.
        colours: Of the parts, as the page's style sheet names them.
    """
    rows = [
        {"name": name, "part": part, "number": number, "value": value}
        for name, sizes in values.items()
        for number, (part, value) in enumerate(zip(parts, sizes, strict=True))
    ]
    totals = [{"name": name, "whole": sum(sizes), "text": f"{sizes[0]:,}"} for name, sizes in values.items()]
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=_LABEL_LIMIT))
    most = max((sum(sizes) for sizes in values.values()), default=0)
    scale = alt.Scale(domainMax=max(most, 1) * _ROOM_FOR_NUMBERS, nice=False)
    pieces = (
        _of(rows)
        .mark_bar()
        .encode(
            y=y,
            x=alt.X("value:Q", title=label, stack="zero", scale=scale),
            color=alt.Color(
                "part:N",
                title=None,
                scale=alt.Scale(domain=list(parts), range=[f"var(--{name})" for name in colours]),
            ),
            order="number:Q",
            tooltip=["name:N", "part:N", alt.Tooltip("value:Q", format=",", title=label)],
        )
    )
    numbers = _of(totals).mark_text(align="left", dx=4).encode(y=y, x="whole:Q", text="text:N")
    said = ", ".join(parts)
    return Chart(
        title=title,
        description=f"Bars, {label}, {said}: "
        + "; ".join(f"{name} {', '.join(f'{size:,}' for size in sizes)}" for name, sizes in values.items()),
        specification=_specification(
            alt.layer(pieces, numbers).properties(width="container", height=max(len(values), 2) * _BAR_HEIGHT)
        ),
        head=("", *parts),
        rows=[(name, *(f"{size:,}" for size in sizes)) for name, sizes in values.items()],
    )


def line_chart(
    *,
    title: str,
    x: str,
    y: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    logarithmic: bool = False,
    marks: Sequence[Threshold] = (),
) -> Chart:
    """A line for each name.

    Args:
        title: Above it.
        x: What is on the horizontal axis.
        y: What is on the vertical axis.
        series: Points of each line; at most some hundreds, see `thinned`.
        logarithmic: Whether the vertical axis is.
        marks: Places on the horizontal axis at which something begins.
    """
    rows = [{"x": a, "y": b, "line": name} for name, points in series.items() for a, b in points]
    hidden = alt.Legend() if len(series) > 1 else None
    chart: AnyChart = (
        _of(rows)
        .mark_line(point=len(rows) < 40, interpolate="linear")
        .encode(
            x=alt.X(
                "x:Q", title=x, scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(labelSeparation=8)
            ),
            y=alt.Y(
                "y:Q",
                title=y,
                axis=alt.Axis(format=",.6~g"),  # by itself a line that is level at 0.0001 is labelled 0
                scale=alt.Scale(zero=False, type="log" if logarithmic else "linear"),
            ),
            color=alt.Color("line:N", title=None, legend=hidden, sort=None),
            tooltip=["line:N", _number("x", x), _number("y", y)],
        )
    )
    if marks:
        chart = alt.layer(chart, *_rules(marks, _MUTED))
    last = "; ".join(f"{name} ends at {points[-1][1]:.4g}" for name, points in series.items() if points)
    begun = "".join(f"; {mark.label} begins at {mark.value:g}" for mark in marks)
    return Chart(
        title=title,
        description=f"Lines of {y} over {x}: {last}{begun}.",
        specification=_specification(chart.properties(width="container", height=HEIGHT)),
        head=("line", x, y),
        rows=[(row["line"], f"{row['x']:.6g}", f"{row['y']:.4g}") for row in rows],
    )


def heatmap(*, title: str, x: str, y: str, counts: Mapping[tuple[str, str], int]) -> Chart:
    """How many there are of each pair of names, darker where there are more.

    Args:
        title: Above it.
        x: What the first name of a pair is.
        y: What the second is.
        counts: By pair, in the order in which the names shall stand.
    """
    rows = [{"x": a, "y": b, "count": count} for (a, b), count in counts.items()]
    chart = (
        _of(rows)
        .mark_rect()
        .encode(
            x=alt.X("x:N", title=x, sort=None, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("y:N", title=y, sort=None),
            opacity=alt.Opacity("count:Q", legend=None, scale=alt.Scale(type="sqrt", range=[0.08, 1])),
            tooltip=[
                alt.Tooltip("x:N", title=x),
                alt.Tooltip("y:N", title=y),
                alt.Tooltip("count:Q", format=","),
            ],
        )
    )
    most = max(counts, key=lambda pair: counts[pair], default=("", ""))
    return Chart(
        title=title,
        description=f"{sum(counts.values()):,} by {x} and {y}; most at {most[0]}, {most[1]}.",
        specification=_specification(chart.properties(width="container", height=HEIGHT)),
        head=(x, y, "count"),
        rows=[(row["x"], row["y"], f"{row['count']:,}") for row in rows],
    )


def thinned(points: Sequence[tuple[float, float]], at_most: int = 300) -> list[tuple[float, float]]:
    """Points along a line, as many as one can see: means of neighbours where there are more."""
    if len(points) <= at_most:
        return list(points)
    size = -(-len(points) // at_most)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _rules(places: Sequence[Threshold], colour: str) -> tuple[alt.Chart, alt.Chart]:
    """Lines across a chart at these places, and what they are."""
    values = [{"value": place.value, "label": place.label} for place in places]
    rules = _of(values).encode(x="value:Q")
    return (
        rules.mark_rule(color=colour, strokeDash=[4, 3], strokeWidth=1.5).encode(
            tooltip=["label:N", _number("value")]
        ),
        rules.mark_text(align="left", dx=4, color=colour, baseline="top").encode(
            y=alt.value(0), text="label:N"
        ),
    )


def _of(values: Sequence[dict[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.Data(values=list(values)))  # type: ignore[no-untyped-call]


def _number(field: str, title: str | None = None) -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", format=".4~g", title=title or field)


def _specification(chart: AnyChart) -> dict[str, Any]:
    """Without Altair's own look: the page gives colours."""
    return {name: part for name, part in chart.to_dict(validate=False).items() if name != "config"}

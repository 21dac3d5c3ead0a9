"""Compare two selections of one output folder: a page that shows what they keep differently.

OUTPUT/comparisons/A-B.html
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import duckdb

from pipelines.curation.layout import scores_uri, selection_uri
from pipelines.inputs import schema_of
from pipelines.ledger import Ledger
from pipelines.pages.charts import Chart, bar_chart, stacked_bars
from pipelines.pages.rendering import render
from pipelines.private_database import ORDINAL
from pipelines.reports.committed import CommittedRun
from pipelines.reports.contact_sheets import PICTURES_BYTES, Sheet, fitting
from pipelines.reports.curated_images import CuratedImages, curated_images
from pipelines.reports.curation_scores import compared_chart, drawn_columns
from pipelines.reports.curation_selections import Selection, asked, read_selection
from pipelines.reports.curation_tables import curated_tables, kept_of, sampled
from pipelines.selection.compare import NUM_SAMPLES, Comparison, Side, compare
from pipelines.storage import open_storage, without_options

COMPARISONS = "comparisons"
_TEMPLATE = Path(__file__).with_name("comparison.html.j2")
_MAX_COLUMNS = 12


def compare_selections(output: str, first: str, second: str) -> tuple[Comparison, str]:
    """Compare two selections by name; gives what was found, and the URI of the page that shows it.

    Raises:
        RefusalError: One is not there, or they are of different scores.
    """
    found = compare(selection_uri(output, first), selection_uri(output, second), (first, second))
    selections = [read_selection(output, name) for name in (first, second)]
    storage, path = open_storage(output), f"{COMPARISONS}/{first}-{second}.html"
    storage.write(path, _page(output, found, selections))
    return found, storage.uri_of(path)


def _page(output: str, found: Comparison, selections: Sequence[Selection]) -> bytes:
    committed = CommittedRun(Ledger.load(scores_uri(output)))
    scores, names = committed.shards, [selection.name for selection in selections]
    decisive = _decisive(selections)
    columns = [name for name in drawn_columns(schema_of(scores), decisive) if name in decisive][:_MAX_COLUMNS]
    with curated_tables(scores, columns, [selection.decisions for selection in selections]) as connection:
        sheets = [_sheet(connection, number, side) for number, side in enumerate(found.sides)]
        groups = {
            "both": f"{kept_of(0)} AND {kept_of(1)}",
            f"only {names[0]}": _only(0),
            f"only {names[1]}": _only(1),
        }
        charts = [compared_chart(connection, column, groups) for column in columns]
    pictures = CuratedImages()
    ordinals = {image.ordinal for sheet in sheets for image in sheet.images}
    if ordinals:
        pictures = curated_images(committed.ledger, scores, ordinals)
    sheets = fitting(sheets, pictures.pictures, PICTURES_BYTES)
    values = {
        "title": f"{names[0]} and {names[1]}",
        "lead": f"Two selections of {without_options(output)}: what each keeps that the other drops.",
        "sections": [
            ("overview", "Overview"),
            *((f"only-{n}", f"Only {side.name}") for n, side in enumerate(found.sides) if side.images),
            ("recipes", "Recipes"),
            *([("scores", "Scores")] if any(charts) else []),
        ],
        "footer": f"{without_options(output)}: made from the decisions of both selections.",
        "facts": [
            ("both keep", f"{found.both:,}"),
            *((f"only {side.name}", f"{side.images:,}") for side in found.sides),
            ("neither", f"{found.neither:,}"),
        ],
        "overview": [_overlap(found), *map(_rules_chart, selections)],
        "sides": [
            (number, side, sheet, _reasons(side, names[1 - number]))
            for number, (side, sheet) in enumerate(zip(found.sides, sheets, strict=True))
            if side.images
        ],
        "changes": _changes(selections),
        "charts": [chart for chart in charts if chart],
        "pictures": pictures,
    }
    return render(_TEMPLATE, values)


def _sheet(connection: duckdb.DuckDBPyConnection, number: int, side: Side) -> Sheet:
    """What one keeps, with why the other drops it."""
    which = f'"{ORDINAL}" IN (SELECT "{ORDINAL}" FROM images WHERE {_only(number)})'
    images = sampled(connection, 1 - number, 2 * NUM_SAMPLES, which) if side.images else []
    return Sheet(title="Samples", note="As good as random, with why the other drops them.", images=images)


def _only(number: int) -> str:
    """The images that this one of the two selections keeps alone, in SQL."""
    return f"{kept_of(number)} AND NOT {kept_of(1 - number)}"


def _overlap(found: Comparison) -> Chart:
    return stacked_bars(
        title="What both keep, and one alone",
        label="images",
        parts=("both", "this one alone"),
        values={side.name: (found.both, side.images) for side in found.sides},
        colours=("muted", "accent"),
    )


def _rules_chart(selection: Selection) -> Chart:
    dropped = {step.name: step.dropped for step in selection.funnel.steps}
    return bar_chart(title=f"Dropped by the rules of {selection.name}", label="images", values=dropped)


def _reasons(side: Side, other: str) -> Chart:
    return bar_chart(
        title=f"Rules of {other} that drop them", label="images", values=dict(side.rules.most_common())
    )


def _decisive(selections: Sequence[Selection]) -> list[str]:
    """The columns of rules, those of rules that only one of the recipes has first."""
    rules = [[rule for _, rule in selection.rules] for selection in selections]
    alone = [rule for one, other in (rules, reversed(rules)) for rule in one if rule not in other]
    names = [rule[key] for rule in alone for key in ("column", "rank_by") if isinstance(rule.get(key), str)]
    return list(dict.fromkeys([*names, *selections[0].columns, *selections[1].columns]))


def _changes(selections: Sequence[Selection]) -> list[tuple[str, str]]:
    """The rules in which the recipes differ, a line each, with the class in which it is shown."""
    texts = [[f"{name}: {asked(rule)}" for name, rule in s.rules] for s in selections]
    names = [selection.name for selection in selections]
    diff = difflib.unified_diff(texts[0], texts[1], names[0], names[1], lineterm="", n=99)
    classes = {"+": "good", "-": "bad"}
    return [(classes.get(line[:1], ""), line) for line in diff if not line.startswith("@@")]

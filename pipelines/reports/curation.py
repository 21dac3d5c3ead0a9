"""The report of a `curate` output: one page, made from what lies in the folder, after any pass and meanwhile.

    page = curation_report("out/curated")    # bytes of HTML; nothing is written, no Ray

What units have committed is read by columns; images are read for the rows that are shown alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import yaml
from rich.filesize import decimal

from pipelines.curation.layout import DATASETS, dataset_uri, runs_in, scores_uri
from pipelines.inputs import schema_of
from pipelines.ledger import RUN_PATH, Ledger
from pipelines.manifest import MANIFEST_PATH
from pipelines.pages.charts import Chart, Threshold
from pipelines.pages.rendering import render
from pipelines.pages.words import short_code_version
from pipelines.reports.committed import CommittedRun
from pipelines.reports.contact_sheets import PICTURES_BYTES, Sheet, fitting
from pipelines.reports.curated_images import CuratedImages, curated_images
from pipelines.reports.curation_duplicates import Duplicates, Search, duplicates_of, read_searches
from pipelines.reports.curation_scores import (
    Part,
    aspect_chart,
    drawn_columns,
    kind_charts,
    score_chart,
    size_chart,
)
from pipelines.reports.curation_selections import (
    Selection,
    funnel_chart,
    funnel_rows,
    read_selections,
    thresholds,
)
from pipelines.reports.curation_tables import (
    CHARACTERS,
    WORDS,
    curated_tables,
    kept_of,
    sampled,
)
from pipelines.reports.run_facts import Facts, cost_facts, run_facts, throughput_charts
from pipelines.selection.rules import literal
from pipelines.status import RunStatus, run_status
from pipelines.storage import open_storage, without_options

_TEMPLATE = Path(__file__).with_name("curation.html.j2")
_MAX_SELECTIONS, _MAX_DATASETS = 4, 8
_KEPT, _BY_RULE = 24, 12
_SAMPLES = (240, 48)
"""Rejected images of the first selection, and of each further one, in all."""
_OPEN_SELECTIONS = 2
_LENGTHS = {WORDS: "Words of the caption", CHARACTERS: "Characters of the caption"}
"""Columns of `curated_tables` that have no name of their own."""


@dataclass(kw_only=True)
class Shown:
    """A selection as the page shows it.

    Attributes:
        selection: The selection.
        is_current: Whether it is of the scores as they are now.
        funnel: The chart; `rows` is its table.
        rows: What each rule asked for and took away.
        charts: Of the columns at which its rules cut.
        kept: Some images that stay.
        dropped: Some that each rule took away.
    """

    selection: Selection
    is_current: bool
    funnel: Chart
    rows: list[tuple[Any, ...]]
    charts: list[Chart]
    kept: Sheet
    dropped: list[Sheet]


@dataclass(kw_only=True)
class _Findings:
    """What the tables tell.

    Attributes:
        size_bytes: Of all images that were scored.
        without_caption: How many have none.
        selections: In order.
        scores: Charts of score columns.
        images: Charts of sizes and kinds.
        captions: Charts of captions.
        duplicates: By kind.
        without_selection: Images, where nothing is selected yet.
        pictures: Of all rows that are shown.
    """

    size_bytes: int = 0
    without_caption: int = 0
    selections: list[Shown] = field(default_factory=list)
    scores: list[Chart] = field(default_factory=list)
    images: list[Chart] = field(default_factory=list)
    captions: list[Chart] = field(default_factory=list)
    duplicates: list[Duplicates] = field(default_factory=list)
    without_selection: Sheet | None = None
    pictures: CuratedImages = field(default_factory=CuratedImages)


def curation_report(output: str, price: float | None = None) -> bytes:
    """The page about a `curate` output, or about what there is of it yet.

    Args:
        output: The folder: `scores/` in it, and as far as they are made `duplicates/`, `selections/` and
            `datasets/`.
        price: Of a worker-hour of scoring.

    Raises:
        LedgerError: There are no scores in the folder, not even begun ones.
        StorageError: It cannot be read.
    """
    committed = CommittedRun(Ledger.load(scores_uri(output)))
    scores = open_storage(scores_uri(output))
    sha256 = scores.sha256(MANIFEST_PATH) if committed.is_finished else None
    selections = read_selections(output)
    searches = read_searches(output, sha256)
    chosen = selections[:_MAX_SELECTIONS]
    findings = _Findings()
    if any(item.rows for item in committed.shards.objects):
        findings = _findings(committed, chosen, searches, sha256)
    name = without_options(output).rstrip("/").rpartition("/")[2]
    datasets = _datasets(output, selections)
    values = {
        "title": f"Curation of {name}",
        "lead": _lead(committed, selections),
        "footer": f"{without_options(output)}: made from the records, shards and decisions in this folder.",
        "facts": _facts(committed, findings, selections, price),
        "findings": findings,
        "others": selections[_MAX_SELECTIONS:],
        "open_selections": _OPEN_SELECTIONS,
        "searches": searches,
        "datasets": datasets,
        "failures": committed.failures,
        "throughput_charts": throughput_charts(committed, "images"),
        "settings": yaml.safe_dump(committed.ledger.spec.config, sort_keys=True, allow_unicode=True),
    }
    return render(_TEMPLATE, values | {"sections": _sections(values)})


def _findings(
    committed: CommittedRun, selections: Sequence[Selection], searches: Sequence[Search], sha256: str | None
) -> _Findings:
    schema = schema_of(committed.shards)
    columns = drawn_columns(schema, [name for selection in selections for name in selection.columns])
    with curated_tables(committed.shards, columns, [s.decisions for s in selections]) as connection:
        size_bytes, without_caption = connection.execute(
            "SELECT sum(size_bytes), count(*) - count(caption) FROM scored"
        ).fetchall()[0]
        found = _Findings(size_bytes=int(size_bytes or 0), without_caption=without_caption)
        cuts = [thresholds(connection, number, s) for number, s in enumerate(selections)]
        found.selections = [
            _shown(
                connection, number, selection, cuts[number], is_current=selection.request["scores"] == sha256
            )
            for number, selection in enumerate(selections)
        ]
        first = cuts[0] if cuts else {}
        part = Part(name=f"kept by {selections[0].name}", condition=kept_of(0)) if selections else None
        found.scores = _charts(connection, columns, first, part)
        found.images = [size_chart(connection), aspect_chart(connection), *kind_charts(connection)]
        found.captions = _charts(connection, _LENGTHS, first, part)
        if searches:
            rules = [rule for s in selections[:1] for _, rule in s.rules if rule["rule"] == "duplicates"]
            search = _of_selection(searches, selections)
            found.duplicates = duplicates_of(
                connection, search, rules[0] if rules else {}, decided=bool(selections)
            )
        if not selections:
            images = sampled(connection, None, 2 * _KEPT)
            found.without_selection = Sheet(title="Some images", note="As good as random.", images=images)
    _add_pictures(committed, found)
    return found


def _add_pictures(committed: CommittedRun, found: _Findings) -> None:
    """Read the pictures of all rows that are shown; leave some out where they are too large for a page."""
    clusters = [c for kind in found.duplicates for c in kind.clusters]
    sheets = [sheet for shown in found.selections for sheet in (shown.kept, *shown.dropped)]
    if found.without_selection is not None:
        sheets.append(found.without_selection)
    ordinals = {member.ordinal for cluster in clusters for member in cluster.members}
    ordinals |= {image.ordinal for sheet in sheets for image in sheet.images}
    found.pictures = curated_images(committed.ledger, committed.shards, ordinals)
    pictures = found.pictures.pictures
    taken = sum(len(pictures[member.ordinal]) for cluster in clusters for member in cluster.members)
    fit = iter(fitting(sheets, pictures, PICTURES_BYTES - taken))
    for shown in found.selections:
        shown.kept = next(fit)
        shown.dropped = [next(fit) for _ in shown.dropped]
    if found.without_selection is not None:
        found.without_selection = next(fit)


def _shown(
    connection: duckdb.DuckDBPyConnection,
    number: int,
    selection: Selection,
    cuts: dict[str, list[Threshold]],
    *,
    is_current: bool,
) -> Shown:
    steps = [step for step in selection.funnel.steps if step.dropped]
    by_rule = min(_BY_RULE, max(_SAMPLES[number > 0] // max(len(steps), 1), 2))
    dropped = [
        Sheet(
            title=step.name,
            note=f"Dropped {step.dropped:,} of the {step.images:,} images that came to it.",
            images=sampled(connection, number, by_rule, f"decided.rule = {literal(step.name)}"),
        )
        for step in steps
    ]
    kept = Sheet(
        title="Kept",
        note=f"{selection.funnel.kept:,} images stay.",
        images=sampled(connection, number, _KEPT if number == 0 else _BY_RULE, "decided.kept"),
    )
    part = Part(name=f"kept by {selection.name}", condition=kept_of(number))
    return Shown(
        selection=selection,
        is_current=is_current,
        funnel=funnel_chart(selection),
        rows=funnel_rows(selection),
        charts=[] if number == 0 else _charts(connection, list(cuts), cuts, part),
        kept=kept,
        dropped=dropped,
    )


def _charts(
    connection: duckdb.DuckDBPyConnection,
    columns: Iterable[str],
    cuts: dict[str, list[Threshold]],
    part: Part | None,
) -> list[Chart]:
    charts = [score_chart(connection, c, cuts.get(c, ()), part, _LENGTHS.get(c, "")) for c in columns]
    return [chart for chart in charts if chart]


def _of_selection(searches: Sequence[Search], selections: Sequence[Selection]) -> Search:
    """The search whose pairs the first selection used, or the first."""
    used = selections[0].request["duplicates"] if selections else None
    return next((search for search in searches if search.sha256 == used), searches[0])


def _lead(committed: CommittedRun, selections: Sequence[Selection]) -> str:
    summary = committed.summary
    seen = summary.rows_done + summary.rows_failed
    if not committed.is_finished:
        return f"Not finished: {seen:,} of {summary.rows:,} images seen so far."
    if not selections:
        return f"{seen:,} images seen, {summary.rows_done:,} scored; nothing is selected yet."
    kept = selections[0].funnel
    return f"{kept.kept:,} of {kept.rows:,} images stay by the recipe of “{selections[0].name}”."


def _facts(
    committed: CommittedRun, findings: _Findings, selections: Sequence[Selection], price: float | None
) -> Facts:
    summary = committed.summary
    return [
        ("images seen", f"{summary.rows_done + summary.rows_failed:,} of {summary.rows:,}"),
        *((f"kept by {s.name}", _of(s.funnel.kept, s.funnel.rows)) for s in selections[:_MAX_SELECTIONS]),
        ("bytes of the images", decimal(findings.size_bytes)),
        *run_facts(committed, "images", "scored images"),
        *cost_facts(committed, price),
        ("code", short_code_version(committed.ledger.spec.code_version)),
    ]


def _datasets(output: str, selections: Sequence[Selection]) -> list[tuple[str, RunStatus]]:
    """The training sets that were begun."""
    order = [s.name for s in selections]
    names = sorted(
        runs_in(output, DATASETS, RUN_PATH),
        key=lambda name: (order.index(name) if name in order else len(order), name),
    )
    return [(name, run_status(dataset_uri(output, name))) for name in names[:_MAX_DATASETS]]


def _sections(values: dict[str, Any]) -> list[tuple[str, str]]:
    findings: _Findings = values["findings"]
    sections = [("overview", "Overview")]
    for number, shown in enumerate(findings.selections):
        sections.append((f"selection-{number}", f"Selection {shown.selection.name}"))
    there = {
        "samples": ("Samples", findings.without_selection),
        "scores": ("Scores", findings.scores),
        "images": ("Sizes and kinds", findings.images),
        "captions": ("Captions", findings.captions),
        "duplicates": ("Duplicates", values["searches"]),
        "datasets": ("Training sets", values["datasets"]),
        "dead-letters": ("Dead letters", values["failures"]),
        "throughput": ("Throughput", values["throughput_charts"]),
        "settings": ("Settings", True),
    }
    return sections + [(key, name) for key, (name, has) in there.items() if has]


def _of(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else f"{part:,}"

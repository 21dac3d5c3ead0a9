"""Duplicates as a report shows them: how far apart pairs are, the largest clusters, the pairs on the edge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from pipelines.curation.layout import DUPLICATES, duplicates_uri, runs_in
from pipelines.inputs import find_parquet, read_batches
from pipelines.manifest import MANIFEST_PATH, read_entries, read_manifest
from pipelines.pages.charts import Chart, Threshold, histogram
from pipelines.pages.words import shortened
from pipelines.private_database import ORDINAL
from pipelines.reports.curation_tables import decisions_of
from pipelines.selection.rules import literal
from pipelines.storage import open_storage
from schemas.duplicates import PAIRS

MAX_MEMBERS, MAX_CLUSTERS, MAX_EDGE = 8, 3, 4
_CANDIDATES = 64
_NUM_BINS = 40
_SAID = {"exact": "Equal bytes", "near": "Near-duplicates", "semantic": "Alike in meaning"}


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search for duplicates that is done.

    Attributes:
        digest: The name of its folder.
        uri: Of the pairs.
        manifest: Its manifest.
        sha256: Of the manifest's bytes: selections name what they used by it.
    """

    digest: str
    uri: str
    manifest: dict[str, Any]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Member:
    """An image of a cluster.

    Attributes:
        ordinal: Its place in the scores.
        row_id: Its id.
        caption: The beginning of its caption.
        distance: To the first image of the cluster; "" for that one.
        fate: Whether it stays, or what dropped it; "" where nothing is decided.
        stays: Whether it stays.
    """

    ordinal: int
    row_id: str
    caption: str
    distance: str
    fate: str
    stays: bool


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """An image and those that pair with it, the closest first.

    Attributes:
        title: What it is an example of.
        members: Some of the images, the common one first.
        others: Further images that are not shown.
    """

    title: str
    members: list[Member]
    others: int = 0


@dataclass(kw_only=True)
class Duplicates:
    """What a report says of one kind of duplicates.

    Attributes:
        name: Which kind, in words.
        pairs: How many there are.
        outside: Those of them with images of other datasets.
        chart: How far apart they are; None for equals.
        clusters: The largest, then the pairs that are the furthest apart.
    """

    name: str
    pairs: int
    outside: int
    chart: Chart | None
    clusters: list[Cluster] = field(default_factory=list)


def read_searches(output: str, scores_sha256: str | None) -> list[Search]:
    """The searches of these scores that are done."""
    found = []
    for digest in runs_in(output, DUPLICATES):
        uri = duplicates_uri(output, digest)
        storage = open_storage(uri)
        manifest = read_manifest(storage)
        if manifest.get("scores", scores_sha256) == scores_sha256:
            sha256 = storage.sha256(MANIFEST_PATH)
            found.append(Search(digest=digest, uri=uri, manifest=manifest, sha256=sha256))
    return found


def duplicates_of(
    connection: duckdb.DuckDBPyConnection, search: Search, rule: dict[str, Any], *, decided: bool
) -> list[Duplicates]:
    """What a search found, by kind.

    Args:
        connection: With the tables of scores and, where `decided`, of the first selection's decisions.
        search: The search.
        rule: The first selection's rule of duplicates; {} where it has none.
        decided: Whether there is a selection.
    """
    if not read_entries(open_storage(search.uri)):
        return []
    batches = read_batches(find_parquet(search.uri), PAIRS.names)
    connection.register("incoming", pa.RecordBatchReader.from_batches(PAIRS, batches))
    connection.execute(
        "CREATE OR REPLACE TABLE pairs AS SELECT incoming.kind, incoming.distance, incoming.against IS NULL "
        f'AS is_within, one."{ORDINAL}" AS a, other."{ORDINAL}" AS b FROM incoming '
        "JOIN scored one ON one.row_id = incoming.a "
        "LEFT JOIN scored other ON other.row_id = incoming.b AND incoming.against IS NULL"
    )
    connection.unregister("incoming")
    counts = connection.execute(
        "SELECT kind, count(*), count(*) FILTER (NOT is_within) FROM pairs GROUP BY kind ORDER BY kind"
    ).fetchall()
    settings = search.manifest.get("settings", {})
    return [
        Duplicates(
            name=_SAID.get(kind, kind),
            pairs=pairs,
            outside=outside,
            chart=_distances(connection, kind, settings, rule),
            clusters=_clusters(connection, kind, decided=decided),
        )
        for kind, pairs, outside in counts
    ]


def _distances(
    connection: duckdb.DuckDBPyConnection, kind: str, settings: dict[str, Any], rule: dict[str, Any]
) -> Chart | None:
    if kind == "near":
        limit = (settings.get("near") or {}).get("max_hamming", 0)
        found = dict(
            connection.execute(
                "SELECT distance::INT, count(*) FROM pairs WHERE kind = 'near' GROUP BY 1"
            ).fetchall()
        )
        last = max([limit, *found])
        demanded = rule.get("max_hamming")
        lines = [] if demanded is None else [Threshold(value=demanded + 0.5, label=f"the rule's {demanded}")]
        return histogram(
            title="Pairs by the bits in which they differ",
            label="bits of 64",
            edges=[number - 0.5 for number in range(last + 2)],
            counts=[found.get(number, 0) for number in range(last + 1)],
            thresholds=lines,
        )
    if kind == "semantic":
        least = (settings.get("semantic") or {}).get("min_cosine", 0.0)
        width = (1 - least) / _NUM_BINS or 1e-6
        found = dict(
            connection.execute(
                f"SELECT greatest(least(floor((1 - distance - ?) / ?), {_NUM_BINS - 1}), 0)::INT, count(*) "
                "FROM pairs WHERE kind = 'semantic' GROUP BY 1",
                [least, width],
            ).fetchall()
        )
        demanded = rule.get("min_cosine")
        lines = [] if demanded is None else [Threshold(value=demanded, label=f"min {demanded:g}")]
        return histogram(
            title="Pairs by their cosine",
            label="cosine",
            edges=[least + width * number for number in range(_NUM_BINS + 1)],
            counts=[found.get(number, 0) for number in range(_NUM_BINS)],
            thresholds=lines,
        )
    return None


def _clusters(connection: duckdb.DuckDBPyConnection, kind: str, *, decided: bool) -> list[Cluster]:
    connection.execute(
        "CREATE OR REPLACE TABLE ends AS SELECT a AS one, b AS other, distance FROM pairs "
        f"WHERE kind = {literal(kind)} AND is_within UNION ALL "
        f"SELECT b, a, distance FROM pairs WHERE kind = {literal(kind)} AND is_within"
    )
    hubs = connection.execute(
        f"SELECT one, count(*) FROM ends GROUP BY one ORDER BY 2 DESC, one LIMIT {_CANDIDATES}"
    ).fetchall()
    clusters, seen = list[Cluster](), set[int]()
    for hub, pairs in hubs:
        is_edge = kind != "exact" and pairs == 1  # a pair: shown below, if it is one of the widest
        if hub in seen or is_edge or len(clusters) == MAX_CLUSTERS:
            continue
        near = connection.execute(
            "SELECT other, distance FROM ends WHERE one = ? ORDER BY distance, other LIMIT ?",
            [hub, MAX_MEMBERS - 1],
        ).fetchall()
        seen |= {hub, *(ordinal for ordinal, _ in near)}
        members = _members(connection, kind, [(hub, None), *near], decided=decided)
        title = f"{pairs + 1:,} images" if pairs > 1 else "A pair"
        clusters.append(Cluster(title=title, members=members, others=pairs - len(near)))
    if kind == "exact":
        return clusters
    edge = connection.execute(
        f"SELECT a, b, distance FROM pairs WHERE kind = {literal(kind)} AND is_within "
        f"ORDER BY distance DESC, a, b LIMIT {_CANDIDATES}"
    ).fetchall()
    rest = [pair for pair in edge if not {pair[0], pair[1]} <= seen][:MAX_EDGE]
    return clusters + [
        Cluster(
            title="Closest to the threshold",
            members=_members(connection, kind, [(a, None), (b, distance)], decided=decided),
        )
        for a, b, distance in rest
    ]


def _members(
    connection: duckdb.DuckDBPyConnection,
    kind: str,
    found: list[tuple[int, float | None]],
    *,
    decided: bool,
) -> list[Member]:
    told, joined = "NULL, NULL, NULL", ""
    if decided:
        told = "decided.kept, decided.rule, decided.duplicate_of"
        joined = f'LEFT JOIN {decisions_of(0)} decided USING ("{ORDINAL}")'
    ordinals = ", ".join(str(ordinal) for ordinal, _ in found)
    rows = connection.execute(
        f'SELECT "{ORDINAL}", scored.row_id, scored.caption, {told} FROM scored {joined} '
        f'WHERE "{ORDINAL}" IN ({ordinals})'
    ).fetchall()
    facts = {row[0]: row[1:] for row in rows}
    members = []
    for ordinal, distance in found:
        row_id, caption, kept, rule, duplicate_of = facts[ordinal]
        fate = "" if kept is None else "stays" if kept else f"goes: {rule}"
        if duplicate_of is not None:
            fate += f", a copy of {duplicate_of}"
        members.append(
            Member(
                ordinal=ordinal,
                row_id=row_id,
                caption=shortened(caption),
                distance="" if distance is None else _said(kind, distance),
                fate=fate,
                stays=bool(kept),
            )
        )
    return members


def _said(kind: str, distance: float) -> str:
    if kind == "near":
        return f"{distance:.0f} bits apart"
    return "equal bytes" if kind == "exact" else f"cosine {1 - distance:.4f}"

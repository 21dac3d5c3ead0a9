"""Which of duplicates stays: the best first, and each other unless it is a pair with one that stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.inputs import ParquetInput
from pipelines.private_database import ORDINAL, quoted
from pipelines.selection.expressions import RecipeError
from pipelines.selection.images_table import DECISION
from pipelines.selection.recipe import DuplicatesRule
from pipelines.selection.rules import LEFT, literal

_PAIRS = 65_536
STRENGTH = ("exact", "near", "semantic")
"""Kinds, the surest first: an image that is a duplicate in several ways is called by the first."""


@dataclass(frozen=True, kw_only=True)
class Copy:
    """An image that goes.

    Attributes:
        ordinal: Its place in the input.
        kind: Of the duplicate.
        distance: Between the two.
        of: The image that stays: its place in the input, or its row_id in another dataset.
        against: That dataset; null within the input.
    """

    ordinal: int
    kind: str
    distance: float
    of: int | str
    against: str | None


class Groups:
    """Pairs of one kind: equals in groups, each known by its first image, and pairs between groups."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self._others: dict[int, list[tuple[float, int]]] = defaultdict(list)
        self._outside: dict[int, tuple[float, str, str]] = {}

    def root(self, ordinal: int) -> int:
        """The first of the images that are equal to this one."""
        first = self._first.get(ordinal, ordinal)
        while first != ordinal:
            ordinal, first = first, self._first.get(first, first)
        return ordinal

    def add_equal(self, a: int, b: int) -> None:
        """Two images that are equal, and with them all that are equal to either."""
        a, b = sorted((self.root(a), self.root(b)))
        if a != b:
            self._first[b] = a

    def add(self, a: int, b: int, distance: float) -> None:
        """A pair of images that differ."""
        self._others[a].append((distance, b))
        self._others[b].append((distance, a))

    def add_outside(self, ordinal: int, distance: float, against: str, other: str) -> None:
        """A pair with an image of another dataset."""
        found = (distance, against, other)
        self._outside[ordinal] = min(self._outside.get(ordinal, found), found)

    def settle(self) -> set[int]:
        """Let pairs hold for whole groups, once all are added; gives all images of some pair."""
        members = {*self._first, *self._first.values(), *self._others, *self._outside}
        self._first = {ordinal: self.root(ordinal) for ordinal in self._first}
        others, outside = self._others, self._outside
        self._others, self._outside = defaultdict(list), {}
        for ordinal, pairs in others.items():
            self._others[self.root(ordinal)] += [(distance, self.root(b)) for distance, b in pairs]
        for ordinal, (distance, against, other) in outside.items():
            self.add_outside(self.root(ordinal), distance, against, other)
        return members

    def neighbours(self, root: int) -> list[tuple[float, int]]:
        """Distances and first images of the groups that pair with this one; itself among them."""
        return [(0.0, root), *self._others.get(root, ())]

    def outside(self, root: int) -> tuple[float, str, str] | None:
        """The closest pair with another dataset: distance, the dataset, row_id."""
        return self._outside.get(root)


def drop_duplicates(
    connection: duckdb.DuckDBPyConnection, name: str, rule: DuplicatesRule, pairs: ParquetInput | None
) -> None:
    """Drop copies among the images that are left.

    Raises:
        RecipeError: The pairs name images that are not in the scores.
    """
    if pairs is None:
        return
    groups = _load(connection, rule, pairs)
    involved = set().union(*(of.settle() for of in groups.values()))
    copies = list(_copies(_best_first(connection, rule, involved), groups))
    _note(connection, name, rule, copies)


def _load(
    connection: duckdb.DuckDBPyConnection, rule: DuplicatesRule, pairs: ParquetInput
) -> dict[str, Groups]:
    groups: dict[str, Groups] = {kind: Groups() for kind in STRENGTH if kind in rule.kinds}
    limits = {"near": rule.max_hamming, "semantic": None if rule.min_cosine is None else 1 - rule.min_cosine}
    within = [
        f"(kind = '{kind}'"
        + ("" if limits.get(kind) is None else f" AND distance <= {limits[kind]} + 1e-6")
        + ")"
        for kind in groups
    ]
    query = (
        f'SELECT p.kind, p.a, p.b, a."{ORDINAL}", b."{ORDINAL}", p.against, p.distance FROM pairs p '
        "LEFT JOIN images a ON a.row_id = p.a LEFT JOIN images b ON b.row_id = p.b AND p.against IS NULL "
        f"WHERE ({' OR '.join(within) or 'false'}) AND ({'true' if rule.against else 'p.against IS NULL'})"
    )
    for item in pairs.objects:
        with pairs.storage.open(item.path) as stream:
            connection.register("pairs", pq.read_table(stream))
        rows = connection.execute(query)
        while found := rows.fetchmany(_PAIRS):
            for kind, a_id, b_id, a, b, against, distance in found:
                if a is None or (against is None and b is None):
                    missing = a_id if a is None else b_id
                    raise RecipeError(
                        f"{pairs.storage.uri_of(item.path)}: a pair names '{missing}', which the scores "
                        "do not have; find the duplicates of these scores"
                    )
                if against is not None:
                    groups[kind].add_outside(a, distance, against, b_id)
                elif distance == 0:
                    groups[kind].add_equal(a, b)
                else:
                    groups[kind].add(a, b, distance)
        connection.unregister("pairs")
    return groups


def _best_first(connection: duckdb.DuckDBPyConnection, rule: DuplicatesRule, involved: set[int]) -> list[int]:
    """Those of the images that are left, by the rule's column."""
    ranked = ""
    if rule.keep is not None:
        ranked = f"{quoted(rule.keep)} {'DESC' if rule.keep_order == 'highest' else 'ASC'} NULLS LAST, "
    connection.register("involved", pa.table({"ordinal": pa.array(sorted(involved), pa.int64())}))
    query = (
        f'SELECT "{ORDINAL}" FROM images JOIN involved ON ordinal = "{ORDINAL}" WHERE {LEFT} '
        f'ORDER BY {ranked}"{ORDINAL}"'
    )
    ordinals = [row[0] for row in connection.execute(query).fetchall()]
    connection.unregister("involved")
    return ordinals


def _copies(best_first: list[int], groups: dict[str, Groups]) -> Iterator[Copy]:
    kept: dict[str, dict[int, int]] = {kind: {} for kind in groups}  # of each group the image that stays
    for ordinal in best_first:
        copy = _copy(ordinal, groups, kept)
        if copy is not None:
            yield copy
            continue
        for kind, of in groups.items():
            kept[kind][of.root(ordinal)] = ordinal


def _copy(ordinal: int, groups: dict[str, Groups], kept: dict[str, dict[int, int]]) -> Copy | None:
    """What the image is a copy of: by the surest kind, the closest; null where it stays."""
    for kind, of in groups.items():
        root, stays = of.root(ordinal), kept[kind]
        found = [(distance, stays[other]) for distance, other in of.neighbours(root) if other in stays]
        if found:
            distance, other = min(found)
            return Copy(ordinal=ordinal, kind=kind, distance=distance, of=other, against=None)
        if outside := of.outside(root):
            distance, against, row_id = outside
            return Copy(ordinal=ordinal, kind=kind, distance=distance, of=row_id, against=against)
    return None


def _note(connection: duckdb.DuckDBPyConnection, name: str, rule: DuplicatesRule, copies: list[Copy]) -> None:
    thresholds = {
        "exact": "no equal bytes",
        "near": "no pair" if rule.max_hamming is None else f"Hamming > {rule.max_hamming}",
        "semantic": "no pair" if rule.min_cosine is None else f"cosine < {rule.min_cosine:g}",
    }
    table = pa.table(
        {
            "ordinal": pa.array([copy.ordinal for copy in copies], pa.int64()),
            "kind": pa.array([copy.kind for copy in copies], pa.string()),
            "distance": pa.array([copy.distance for copy in copies], pa.float32()),
            "within": pa.array([c.of if isinstance(c.of, int) else None for c in copies], pa.int64()),
            "outside": pa.array([c.of if isinstance(c.of, str) else None for c in copies], pa.string()),
            "against": pa.array([copy.against for copy in copies], pa.string()),
            "threshold": pa.array([thresholds[copy.kind] for copy in copies], pa.string()),
        }
    )
    connection.register("copies", table)
    connection.execute(
        "CREATE TEMP TABLE noted AS SELECT copies.*, coalesce(copies.outside, kept.row_id) AS other, "
        "kind || ' ' || distance || coalesce(' in ' || against, '') AS value "
        f'FROM copies LEFT JOIN images kept ON kept."{ORDINAL}" = copies.within'
    )
    connection.execute(
        f'UPDATE images SET "{DECISION}" = {literal(name)}, __value = noted.value, '
        "__threshold = noted.threshold, __duplicate_kind = noted.kind, __distance = noted.distance, "
        f'__duplicate_of = noted.other FROM noted WHERE images."{ORDINAL}" = noted.ordinal'
    )
    connection.execute("DROP TABLE noted")
    connection.unregister("copies")

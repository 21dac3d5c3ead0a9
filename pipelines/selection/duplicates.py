"""Which of duplicates stays: the best first, and each other unless it is a pair with one that stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.inputs import ParquetInput
from pipelines.selection.images_table import DECISION, ORDINAL
from pipelines.selection.recipe import DuplicatesRule
from pipelines.selection.rules import LEFT, literal, quoted

Pair = tuple[str, float, "int | str"]
"""Kind, distance, and the other one: an ordinal, or a row_id in another dataset."""


@dataclass(frozen=True, kw_only=True)
class Copy:
    """An image that goes.

    Attributes:
        ordinal: Its place in the input.
        kind: Of the duplicate.
        distance: Between the two.
        of: The image that stays: its place in the input, or its row_id in another dataset.
    """

    ordinal: int
    kind: str
    distance: float
    of: int | str


class Groups:
    """Pairs of one kind: equals in groups, each known by its first member, and pairs between groups."""

    def __init__(self) -> None:
        self.first: dict[int, int] = {}
        self.others: dict[int, list[tuple[float, int]]] = defaultdict(list)
        self.outside: dict[int, tuple[float, str]] = {}

    def members(self) -> set[int]:
        """All images of some pair."""
        return {*self.first, *self.first.values(), *self.others, *self.outside}

    def root(self, ordinal: int) -> int:
        """The first of the images that are equal to this one."""
        return self.first.get(ordinal, ordinal)


def drop_duplicates(
    connection: duckdb.DuckDBPyConnection, name: str, rule: DuplicatesRule, pairs: ParquetInput | None
) -> None:
    """Drop copies among the images that are left."""
    if pairs is None:
        return
    groups = _load(connection, rule, pairs)
    members = set().union(*(of.members() for of in groups.values()))
    # an image dropped before may stand for its equals, so membership is asked of the groups' roots
    involved = members | {m for of in groups.values() for m in of.first}
    copies = list(_copies(_best_first(connection, rule, involved), groups, rule.kinds))
    _note(connection, name, rule, copies)


def _load(
    connection: duckdb.DuckDBPyConnection, rule: DuplicatesRule, pairs: ParquetInput
) -> dict[str, Groups]:
    groups: dict[str, Groups] = {kind: Groups() for kind in rule.kinds}
    limits = {"near": rule.max_hamming, "semantic": None if rule.min_cosine is None else 1 - rule.min_cosine}
    for item in pairs.objects:
        with pairs.storage.open(item.path) as stream:
            table = pq.read_table(stream)
        connection.register("pairs", table)
        query = (
            f'SELECT p.kind, a."{ORDINAL}", b."{ORDINAL}", p.b, p.against, p.distance FROM pairs p '
            "JOIN images a ON a.row_id = p.a LEFT JOIN images b ON b.row_id = p.b AND p.against IS NULL "
            "ORDER BY ALL"
        )
        for kind, a, b, other, against, distance in connection.execute(query).fetchall():
            limit = limits.get(kind)
            if kind not in groups or (limit is not None and distance > limit + 1e-6):
                continue
            found = groups[kind]
            if against is not None:
                if rule.against and (a not in found.outside or distance < found.outside[a][0]):
                    found.outside[a] = (distance, f"{against}#{other}")
            elif distance == 0 and kind != "semantic":
                first, second = min(a, b), max(a, b)
                found.first[second] = first
            else:
                found.others[a].append((distance, b))
                found.others[b].append((distance, a))
        connection.unregister("pairs")
    return groups


def _best_first(connection: duckdb.DuckDBPyConnection, rule: DuplicatesRule, involved: set[int]) -> list[int]:
    """Those of the images that are left, by the rule's column."""
    ranked = ""
    if rule.keep is not None:
        ranked = f"{quoted(rule.keep)} {'DESC' if rule.order == 'highest' else 'ASC'} NULLS LAST, "
    connection.register("involved", pa.table({"ordinal": pa.array(sorted(involved), pa.int64())}))
    query = (
        f'SELECT "{ORDINAL}" FROM images JOIN involved ON ordinal = "{ORDINAL}" WHERE {LEFT} '
        f'ORDER BY {ranked}"{ORDINAL}"'
    )
    ordinals = [row[0] for row in connection.execute(query).fetchall()]
    connection.unregister("involved")
    return ordinals


def _copies(best_first: list[int], groups: dict[str, Groups], kinds: tuple[str, ...]) -> Iterator[Copy]:
    kept: dict[str, dict[int, int]] = {kind: {} for kind in kinds}  # of each group the image that stays
    for ordinal in best_first:
        found: list[tuple[float, int, str, int | str]] = []
        for number, kind in enumerate(kinds):
            of, stays = groups[kind], kept[kind]
            root = of.root(ordinal)
            near = [(0.0, root), *of.others.get(root, ())]
            found += [(distance, number, kind, stays[other]) for distance, other in near if other in stays]
            if root in of.outside:
                distance, name = of.outside[root]
                found.append((distance, number, kind, name))
        if found:
            distance, _, kind, other = min(found, key=lambda pair: (pair[1], pair[0], str(pair[3])))
            yield Copy(ordinal=ordinal, kind=kind, distance=distance, of=other)
            continue
        for kind in kinds:
            kept[kind].setdefault(groups[kind].root(ordinal), ordinal)


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
            "threshold": pa.array([thresholds[copy.kind] for copy in copies], pa.string()),
        }
    )
    connection.register("copies", table)
    connection.execute(
        f"UPDATE images SET \"{DECISION}\" = {literal(name)}, __value = kind || ' ' || distance, "
        "__threshold = copies.threshold, __duplicate_kind = copies.kind, __distance = copies.distance, "
        f'__duplicate_of = coalesce(copies.outside, (SELECT row_id FROM images i WHERE i."{ORDINAL}" = '
        f'copies.within)) FROM copies WHERE images."{ORDINAL}" = copies.ordinal'
    )
    connection.unregister("copies")

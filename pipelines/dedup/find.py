"""Find the duplicates of a dataset of scores on Ray, and write them as pairs.

    OUTPUT/pairs/KIND-NNNNN.parquet    of schema PAIRS
    OUTPUT/manifest.json               last: without it there is nothing

Columns travel through Ray's object store; the driver sees counts. What is written does not depend on how many
workers there are: the pieces of work are cut by the data alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
from numpy.typing import NDArray

from pipelines.config import identity
from pipelines.dedup.columns import Piece, embeddings_of, open_scores, pieces_of, read_piece
from pipelines.dedup.near import block_masks, near_pairs
from pipelines.dedup.semantic import cluster_centres, nearest_centres, similar_pairs
from pipelines.dedup.settings import DedupSettings, SemanticSettings
from pipelines.manifest import MANIFEST_PATH, read_manifest
from pipelines.shards import parquet_bytes
from pipelines.storage import Storage, open_storage
from schemas.duplicates import PAIRS
from schemas.manifest import FORMAT, ObjectEntry, json_bytes

PIECE_ROWS = 65_536
CLUSTER_GROUPS = 16
_TABLES_AT_ONCE = 4
Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class DuplicatesSummary:
    """What was found.

    Attributes:
        output: URI of the pairs.
        images: Of the dataset.
        pairs: How many, by kind.
    """

    output: str
    images: int
    pairs: dict[str, int]


def find_duplicates(scores_uri: str, output_uri: str, settings: DedupSettings) -> DuplicatesSummary:
    """Find all duplicates, unless that is done already. Needs a connected Ray.

    Args:
        scores_uri: A dataset of scores.
        output_uri: Where the pairs go. Not for other scores or settings.
        settings: What to look for.

    Raises:
        DedupError: A dataset lacks a column that is needed.
    """
    output = open_storage(output_uri)
    if output.exists(MANIFEST_PATH):
        manifest = read_manifest(output)
        return DuplicatesSummary(output=output_uri, images=manifest["rows_in"], pairs=manifest["pairs"])
    datasets = _Datasets.open([scores_uri, *settings.against], settings)
    entries: dict[str, list[ObjectEntry]] = {}
    if settings.exact:
        entries["exact"] = _find_exact(datasets, output)
    if settings.near is not None:
        entries["near"] = _find_near(datasets, output, settings.near.max_hamming, settings.near.column)
    if settings.semantic is not None:
        entries["semantic"] = _find_semantic(datasets, output, settings.semantic)
    objects = [entry for kind in entries.values() for entry in kind if entry.rows]
    pairs = {kind: sum(entry.rows for entry in found) for kind, found in entries.items()}
    scores = open_storage(scores_uri).read(MANIFEST_PATH)
    manifest = {
        "format": FORMAT,
        "job": "dedup",
        "rows_in": datasets.own_rows,
        "rows_out": sum(pairs.values()),
        "pairs": pairs,
        "settings": identity(settings),
        "scores": hashlib.sha256(scores).hexdigest(),
        "objects": [entry.to_json() for entry in objects],
        "failed": {"objects": []},
    }
    output.write(MANIFEST_PATH, json_bytes(manifest))
    return DuplicatesSummary(output=output_uri, images=datasets.own_rows, pairs=pairs)


@dataclass(frozen=True, kw_only=True)
class _Datasets:
    """The dataset itself, and behind it those that it is compared with; rows are counted over all of them.

    Attributes:
        uris: Of each dataset.
        pieces: All their pieces; the first row of each counted over all datasets.
        starts: First row of each dataset, and the end.
        row_ids: Reference to the ids of all rows, in Ray's object store.
    """

    uris: list[str]
    pieces: list[Piece]
    starts: list[int]
    row_ids: Any

    @classmethod
    def open(cls, uris: list[str], settings: DedupSettings) -> _Datasets:
        columns = ["row_id", "image_id"]
        columns += [one.column for one in (settings.near, settings.semantic) if one is not None]
        pieces: list[Piece] = []
        starts = [0]
        for uri in uris:
            own = pieces_of(open_scores(uri, columns), PIECE_ROWS)
            pieces += [
                Piece(storage=p.storage, paths=p.paths, first=starts[-1] + p.first, rows=p.rows) for p in own
            ]
            starts.append(starts[-1] + sum(piece.rows for piece in own))
        return cls(uris=uris, pieces=pieces, starts=starts, row_ids=_column(pieces, "row_id"))

    @property
    def own_rows(self) -> int:
        """Rows of the dataset itself."""
        return self.starts[1]

    def facts(self) -> _Facts:
        """What tasks need to know."""
        return _Facts(uris=tuple(self.uris), starts=tuple(self.starts))


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """See `_Datasets`."""

    uris: tuple[str, ...]
    starts: tuple[int, ...]

    def wanted(self, first: Indices) -> NDArray[np.bool_]:
        """Whether pairs are of the dataset itself, or of it and another; `first` is the lower row of each."""
        return first < self.starts[1]

    def table(
        self, kind: str, row_ids: pa.Array, first: Indices, second: Indices, distance: NDArray[Any]
    ) -> pa.Table:
        """The pairs as rows of PAIRS."""
        of = np.searchsorted(self.starts, second, side="right") - 1
        names = [None, *self.uris[1:]]
        a, b = row_ids.take(pa.array(first)), row_ids.take(pa.array(second))
        turned = pc.and_(pc.greater(a, b), pa.array(of == 0))
        columns = [
            pa.array([kind] * len(first), pa.string()),
            pc.if_else(turned, b, a),
            pc.if_else(turned, a, b),
            pa.array([names[number] for number in of.tolist()], pa.string()),
            pa.array(distance, pa.float32()),
        ]
        return pa.table(columns, schema=PAIRS)


def _column(pieces: Sequence[Piece], name: str) -> Any:
    """A reference to a column of all datasets, as one array in Ray's object store."""
    return _joined.remote(name, *[_read.remote(piece, [name]) for piece in pieces])


@ray.remote(num_cpus=0.5)
def _read(piece: Piece, columns: list[str]) -> pa.Table:
    return read_piece(piece, columns)


@ray.remote(num_cpus=0.5)
def _joined(name: str, *tables: pa.Table) -> pa.Array:
    return pa.concat_tables(tables)[name].combine_chunks()


def _find_exact(datasets: _Datasets, output: Storage) -> list[ObjectEntry]:
    ids = _column(datasets.pieces, "image_id")
    return [ray.get(_exact.remote(datasets.facts(), datasets.row_ids, ids, output))]


@ray.remote(num_cpus=0.5)
def _exact(facts: _Facts, row_ids: pa.Array, image_ids: pa.Array, output: Storage) -> ObjectEntry:
    codes = image_ids.dictionary_encode().indices.to_numpy()
    first, second = _stars(codes)
    wanted = facts.wanted(first)
    zeros = np.zeros(int(wanted.sum()), np.float32)
    return _written(output, "exact", 0, facts.table("exact", row_ids, first[wanted], second[wanted], zeros))


def _stars(values: NDArray[Any]) -> tuple[Indices, Indices]:
    """Of each group of equal values the first row, and each other one."""
    _, first_rows, group = np.unique(values, return_index=True, return_inverse=True)
    rows = np.arange(len(values))
    others = first_rows[group] != rows
    return first_rows[group][others], rows[others]


def _find_near(datasets: _Datasets, output: Storage, max_hamming: int, column: str) -> list[ObjectEntry]:
    hashes = _column(datasets.pieces, column)
    distinct = _distinct.remote(datasets.facts(), hashes)
    masks = block_masks(ray.get(_length.remote(distinct)), max_hamming)
    arguments = (datasets.facts(), datasets.row_ids)
    found = [_equal.remote(*arguments, hashes, output)]
    for start in range(0, len(masks), _TABLES_AT_ONCE):
        tables = range(start, min(start + _TABLES_AT_ONCE, len(masks)))
        found.append(_near.remote(*arguments, distinct, masks, tables, max_hamming, output))
    return list(ray.get(found))


@ray.remote(num_cpus=0.5)
def _distinct(facts: _Facts, hashes: pa.Array) -> tuple[NDArray[np.uint64], Indices]:
    """The distinct hashes of each dataset, and the first row of each."""
    values, rows = [], []
    for start, stop in zip(facts.starts[:-1], facts.starts[1:], strict=True):
        own, first = np.unique(hashes.slice(start, stop - start).to_numpy(), return_index=True)
        order = np.argsort(first)
        values.append(own[order])
        rows.append(first[order] + start)
    return np.concatenate(values), np.concatenate(rows)


@ray.remote(num_cpus=0.5)
def _length(distinct: tuple[NDArray[np.uint64], Indices]) -> int:
    return len(distinct[0])


@ray.remote(num_cpus=0.5)
def _equal(facts: _Facts, row_ids: pa.Array, hashes: pa.Array, output: Storage) -> ObjectEntry:
    """Pairs of equal hashes within the dataset."""
    first, second = _stars(hashes.slice(0, facts.starts[1]).to_numpy())
    zeros = np.zeros(len(first), np.float32)
    return _written(output, "near", 0, facts.table("near", row_ids, first, second, zeros))


@ray.remote(num_cpus=0.5)
def _near(
    facts: _Facts,
    row_ids: pa.Array,
    distinct: tuple[NDArray[np.uint64], Indices],
    masks: list[int],
    tables: range,
    max_hamming: int,
    output: Storage,
) -> ObjectEntry:
    values, rows = distinct
    found = []
    for number in tables:
        first, second, distance = near_pairs(values, masks, number, max_hamming)
        first, second = rows[first], rows[second]
        wanted = facts.wanted(first)
        found.append(facts.table("near", row_ids, first[wanted], second[wanted], distance[wanted]))
    return _written(output, "near", 1 + tables.start // _TABLES_AT_ONCE, pa.concat_tables(found))


def _find_semantic(datasets: _Datasets, output: Storage, settings: SemanticSettings) -> list[ObjectEntry]:
    own = [piece for piece in datasets.pieces if piece.first < datasets.own_rows]
    centres = _centres.remote(own, datasets.own_rows, settings)
    assigned: list[Any] = [
        _assigned.options(num_returns=CLUSTER_GROUPS).remote(piece, centres, settings.column)
        for piece in datasets.pieces
    ]
    found = [
        _semantic.remote(
            datasets.facts(),
            datasets.row_ids,
            group,
            settings.min_cosine,
            output,
            *[a[group] for a in assigned],
        )
        for group in range(CLUSTER_GROUPS)
    ]
    return list(ray.get(found))


@ray.remote(num_cpus=1)
def _centres(pieces: list[Piece], num_images: int, settings: SemanticSettings) -> NDArray[np.float32]:
    rng = np.random.default_rng(settings.seed)
    chosen = np.sort(rng.choice(num_images, min(settings.sample, num_images), replace=False))
    samples = []
    for piece in pieces:
        rows = chosen[(chosen >= piece.first) & (chosen < piece.first + piece.rows)] - piece.first
        if len(rows):
            samples.append(embeddings_of(read_piece(piece, [settings.column])[settings.column].take(rows)))
    return cluster_centres(np.concatenate(samples), num_images, settings.num_clusters, settings.seed)


@ray.remote(num_cpus=1)
def _assigned(piece: Piece, centres: NDArray[np.float32], column: str) -> tuple[Any, ...]:
    """The piece's rows, clusters and embeddings, in groups of clusters."""
    embeddings = embeddings_of(read_piece(piece, [column])[column])
    clusters = nearest_centres(embeddings, centres)
    rows = piece.first + np.arange(len(embeddings))
    groups = [clusters % CLUSTER_GROUPS == group for group in range(CLUSTER_GROUPS)]
    return tuple((rows[g], clusters[g], embeddings[g].astype(np.float16)) for g in groups)


@ray.remote(num_cpus=1)
def _semantic(
    facts: _Facts, row_ids: pa.Array, group: int, min_cosine: float, output: Storage, *pieces: Any
) -> ObjectEntry:
    """The pairs of a group of clusters."""
    rows, clusters, embeddings = (np.concatenate([piece[n] for piece in pieces]) for n in range(3))
    tables = [PAIRS.empty_table()]
    for cluster in np.unique(clusters):
        members = rows[clusters == cluster]
        first, second, cosines = similar_pairs(embeddings[clusters == cluster].astype(np.float32), min_cosine)
        first, second = members[first], members[second]
        wanted = facts.wanted(first)
        distance = np.maximum(1 - cosines[wanted], 0)
        tables.append(facts.table("semantic", row_ids, first[wanted], second[wanted], distance))
    return _written(output, "semantic", group, pa.concat_tables(tables))


def _written(output: Storage, kind: str, number: int, pairs: pa.Table) -> ObjectEntry:
    path, data = f"pairs/{kind}-{number:05d}.parquet", parquet_bytes(pairs)
    if pairs.num_rows:
        output.write(path, data)
    return ObjectEntry.of(path, data, pairs.num_rows)

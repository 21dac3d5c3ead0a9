"""What the tasks of a search do: split rows by their keys, then find the pairs of each part.

Rows are tables of row id, row number, dataset and key (`columns.read_rows`), in the order of their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.dedup.columns import DATASET, KEY, ROW, ROW_ID, DedupError, Piece, embeddings_of, read_rows
from pipelines.dedup.groups import Indices, equal_groups
from pipelines.dedup.near import Hashes, block_tables, near_pairs
from pipelines.dedup.pairs import PairWriter, Target
from pipelines.dedup.semantic import (
    cluster_centres,
    first_common,
    nearest_centres,
    similar_pairs,
    unit_vectors,
)
from pipelines.dedup.settings import SemanticSettings
from schemas.manifest import ObjectEntry

_BATCH_PAIRS = 100_000
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads hashes that share bits (Knuth, TAOCP 3)
LEAST_DISTANCE = float(np.finfo(np.float32).epsneg)
"""Of embeddings that are not equal bit by bit, whatever their cosine is rounded to."""


@dataclass(frozen=True, kw_only=True)
class Members:
    """Images of some clusters.

    Attributes:
        rows: Their rows, without the key.
        clusters: Theirs, int32 [N, P].
        embeddings: Theirs, float16 [N, D].
    """

    rows: pa.Table
    clusters: NDArray[np.int32]
    embeddings: NDArray[np.float16]


def split_rows(piece: Piece, column: str, num_parts: int) -> Any:
    """The rows of a piece in parts, each with all of some keys; the one part itself where there is one."""
    rows = read_rows(piece, column)
    if num_parts == 1:
        return rows
    part_N = part_numbers(rows[KEY], num_parts)
    return tuple(rows.filter(pa.array(part_N == part)) for part in range(num_parts))


def part_numbers(keys: pa.ChunkedArray, num_parts: int) -> NDArray[np.int64]:
    """The part of each key: a hash, or the SHA-256 of an image."""
    if pa.types.is_uint64(keys.type):
        mixed = (keys.to_numpy() * _MIX) >> np.uint64(32)
    else:
        tails = pc.utf8_slice_codeunits(keys, -8).cast(pa.binary()).cast(pa.binary(8))
        chunks = [np.frombuffer(c.buffers()[1], "<u8", len(c), c.offset * 8) for c in tails.chunks]
        mixed = np.concatenate([np.zeros(0, np.uint64), *chunks]) * _MIX >> np.uint64(32)
    parts: NDArray[np.int64] = (mixed % np.uint64(num_parts)).astype(np.int64)
    return parts


def exact_part(target: Target, part: int, *tables: pa.Table) -> list[ObjectEntry]:
    """The pairs of equal image ids in a part."""
    rows = pa.concat_tables(tables).combine_chunks()
    codes = pc.dictionary_encode(_array(rows, KEY)).indices.to_numpy()
    groups = equal_groups(codes, rows[DATASET].to_numpy())
    writer = PairWriter(target, "exact", part)
    _add(writer, rows, groups.a, groups.b, np.zeros(len(groups.a)))
    return writer.end()


def near_part(target: Target, part: int, *tables: pa.Table) -> tuple[list[ObjectEntry], pa.Table]:
    """The pairs of equal hashes in a part, and the first row of each hash in each dataset."""
    rows = pa.concat_tables(tables).combine_chunks()
    groups = equal_groups(rows[KEY].to_numpy(), rows[DATASET].to_numpy())
    writer = PairWriter(target, "near", part)
    _add(writer, rows, groups.a, groups.b, np.zeros(len(groups.a)))
    return writer.end(), rows.take(groups.firsts)


def joined_firsts(*tables: pa.Table) -> tuple[pa.Table, int]:
    """The first rows of all parts, ordered by hash and dataset, and how many hashes there are."""
    rows = pa.concat_tables(tables)
    column = rows.column_names.index(ROW_ID)
    rows = rows.set_column(column, ROW_ID, rows[ROW_ID].cast(pa.large_string()))  # may be more than 2 GiB
    order = np.lexsort((rows[DATASET].to_numpy(), rows[KEY].to_numpy()))
    rows = rows.take(order).combine_chunks()
    return rows, int(_leads(rows[KEY].to_numpy()).sum())


def near_tables(
    target: Target, part: int, firsts: pa.Table, blocks: int, max_hamming: int, numbers: range
) -> list[ObjectEntry]:
    """The pairs of different hashes that some block tables find.

    Args:
        target: Where to.
        part: Of the output.
        firsts: From `joined_firsts`.
        blocks: Into how many hashes are cut.
        max_hamming: Bits in which a pair may differ.
        numbers: Of the tables.
    """
    hashes, datasets = firsts[KEY].to_numpy(), firsts[DATASET].to_numpy()
    leads = _leads(hashes)  # where a dataset other than 0 leads, 0 has not this hash
    own, others = hashes[leads & (datasets == 0)], hashes[leads & (datasets > 0)]
    writer = PairWriter(target, "near", part)
    waiting: list[tuple[Hashes, Hashes, NDArray[np.uint8]]] = []
    num_waiting = 0
    for table in block_tables(blocks, max_hamming)[numbers.start : numbers.stop]:
        for found in near_pairs(own, others, table, max_hamming):
            waiting.append(found)
            num_waiting += len(found[0])
            if num_waiting >= _BATCH_PAIRS:
                _add_near(writer, firsts, waiting)
                waiting, num_waiting = [], 0
    if waiting:
        _add_near(writer, firsts, waiting)
    return writer.end()


def expand(
    first: Hashes, second: Hashes, hashes: Hashes, datasets: NDArray[np.int32]
) -> tuple[Indices, Indices, Indices]:
    """Rows of pairs of hashes: indices of a row of dataset 0, of the other row, and of the pair of hashes.

    Args:
        first: One hash of each pair.
        second: The other.
        hashes: Of the rows, in order; a row for each dataset in which the hash is.
        datasets: Of the rows, in order where the hash is the same.
    """
    found = []
    for x, y, within in ((first, second, True), (second, first, False)):
        i = np.searchsorted(hashes, x)
        start = np.searchsorted(hashes, y)
        count = np.where(datasets[i] == 0, np.searchsorted(hashes, y, side="right") - start, 0)
        pair = np.repeat(np.arange(len(x)), count)
        j = start[pair] + np.arange(len(pair)) - np.repeat(np.cumsum(count) - count, count)
        wanted = (datasets[j] > 0) | within
        found.append((i[pair][wanted], j[wanted], pair[wanted]))
    i, j, pair = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return i, j, pair


def sampled(piece: Piece, column: str, chosen: NDArray[np.int64]) -> NDArray[np.float16]:
    """The embeddings of some rows of a piece, by their numbers."""
    return embeddings_of(read_rows(piece, column, only=chosen)[KEY])


def centres_of(settings: SemanticSettings, num_clusters: int, *samples: NDArray[np.float16]) -> Any:
    """The clusters' centres, float32 [C, D].

    Raises:
        DedupError: There are no embeddings.
    """
    found = [sample for sample in samples if len(sample)]
    if not found:
        raise DedupError(
            f"column '{settings.column}' is empty wherever it was looked at; score the images again, "
            "or set dedup.semantic to null"
        )
    return cluster_centres(unit_vectors(np.concatenate(found)), num_clusters, settings.seed)


def split_clusters(
    piece: Piece, settings: SemanticSettings, centres_CD: NDArray[np.float32], num_parts: int
) -> Any:
    """The images of a piece in parts, each with all of some clusters; an image may be in several."""
    rows = read_rows(piece, settings.column)
    embeddings_ND = embeddings_of(rows[KEY])
    clusters_NP = nearest_centres(unit_vectors(embeddings_ND), centres_CD, settings.probes)
    rows = rows.drop_columns([KEY])
    parts = []
    for part in range(num_parts):
        chosen = np.flatnonzero((clusters_NP % num_parts == part).any(axis=1))
        clusters, embeddings = clusters_NP[chosen], embeddings_ND[chosen]
        parts.append(Members(rows=rows.take(chosen), clusters=clusters, embeddings=embeddings))
    return tuple(parts) if num_parts > 1 else parts[0]


def semantic_part(
    target: Target, part: int, num_parts: int, min_cosine: float, *pieces: Members
) -> list[ObjectEntry]:
    """The pairs of a part's clusters, one cluster after the other."""
    pieces = tuple(piece for piece in pieces if piece.rows.num_rows) or pieces[:1]
    rows = pa.concat_tables([piece.rows for piece in pieces]).combine_chunks()
    clusters_NP = np.concatenate([piece.clusters for piece in pieces])
    embeddings_ND = np.concatenate([piece.embeddings for piece in pieces])
    datasets = rows[DATASET].to_numpy()
    writer = PairWriter(target, "semantic", part)
    for cluster in np.unique(clusters_NP[clusters_NP % num_parts == part]).tolist():
        members = np.flatnonzero((clusters_NP == cluster).any(axis=1))
        for i, j, distance in cluster_pairs(embeddings_ND[members], datasets[members], min_cosine):
            a, b = members[i], members[j]
            once = first_common(clusters_NP[a], clusters_NP[b]) == cluster
            _add(writer, rows, a[once], b[once], distance[once])
    return writer.end()


def cluster_pairs(embeddings_ND: NDArray[np.float16], datasets: NDArray[np.int32], min_cosine: float) -> Any:
    """The pairs of a cluster: indices, and 1 - cosine, which is 0 for equal embeddings alone; in pieces.

    Args:
        embeddings_ND: Of the members; those of dataset 0 first.
        datasets: Of the members.
        min_cosine: From which on two are a pair.
    """
    values = np.ascontiguousarray(embeddings_ND).view(np.dtype((np.void, embeddings_ND.shape[1] * 2)))[:, 0]
    groups = equal_groups(values, datasets)
    yield groups.a, groups.b, np.zeros(len(groups.a), np.float32)
    firsts = np.sort(groups.firsts)
    num_own = int((datasets[firsts] == 0).sum())
    for i, j, cosines in similar_pairs(unit_vectors(embeddings_ND[firsts]), num_own, min_cosine):
        different = values[firsts[i]] != values[firsts[j]]
        distance = np.maximum(1 - cosines[different], LEAST_DISTANCE)
        yield firsts[i[different]], firsts[j[different]], distance


def _leads(hashes: Hashes) -> NDArray[np.bool_]:
    """Whether each of sorted hashes is the first that is equal to it."""
    leads = np.ones(len(hashes), bool)
    leads[1:] = hashes[1:] != hashes[:-1]
    return leads


def _add_near(
    writer: PairWriter, firsts: pa.Table, found: Sequence[tuple[Hashes, Hashes, NDArray[np.uint8]]]
) -> None:
    first, second, distance = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    i, j, pair = expand(first, second, firsts[KEY].to_numpy(), firsts[DATASET].to_numpy())
    rows = firsts[ROW].to_numpy()
    turned = (firsts[DATASET].to_numpy()[j] == 0) & (rows[i] > rows[j])
    i, j = np.where(turned, j, i), np.where(turned, i, j)
    order = np.lexsort((rows[j], rows[i]))
    _add(writer, firsts, i[order], j[order], distance[pair[order]])


def _add(writer: PairWriter, rows: pa.Table, a: Indices, b: Indices, distance: NDArray[Any]) -> None:
    row_ids = _array(rows, ROW_ID)
    writer.add(row_ids.take(pa.array(a)), row_ids.take(pa.array(b)), rows[DATASET].to_numpy()[b], distance)


def _array(rows: pa.Table, column: str) -> pa.Array:
    """A column of a table without chunks as one array."""
    chunks = rows[column].chunks
    return chunks[0] if chunks else pa.array([], rows[column].type)

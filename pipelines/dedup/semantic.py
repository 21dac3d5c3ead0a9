"""Pairs of images whose embeddings point one way, looked for within clusters: SemDeDup (Abbas et al. 2023).

N images, D width of an embedding, C clusters, P clusters that an image belongs to.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]
Indices = NDArray[np.int64]
_BLOCK = 2048
_ITERATIONS = 10


def unit_vectors(embeddings_ND: NDArray[np.float16]) -> Embeddings:
    """The embeddings in float32 and of length one; zeros stay."""
    vectors_ND = embeddings_ND.astype(np.float32)
    lengths_N1 = np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), np.float32(1e-12))
    unit_ND: Embeddings = vectors_ND / lengths_N1
    return unit_ND


def cluster_centres(sample_ND: Embeddings, num_clusters: int, seed: int) -> Embeddings:
    """Centres [C, D] of length one, by spherical k-means (Dhillon and Modha, 2001).

    Args:
        sample_ND: Embeddings of length one.
        num_clusters: Of so many clusters, or of as many as there are embeddings.
        seed: Of the choice of the first centres.
    """
    num_clusters = min(num_clusters, len(sample_ND))
    chosen = np.random.default_rng(seed).choice(len(sample_ND), num_clusters, replace=False)
    centres_CD = sample_ND[np.sort(chosen)]
    for _ in range(_ITERATIONS):
        cluster_N = nearest_centres(sample_ND, centres_CD, 1)[:, 0]
        order = np.argsort(cluster_N, kind="stable")
        filled, starts = np.unique(cluster_N[order], return_index=True)
        sums = np.add.reduceat(sample_ND[order], starts, axis=0)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        moves = lengths[:, 0] > 0
        centres_CD[filled[moves]] = sums[moves] / lengths[moves]  # an empty cluster keeps its centre
    return centres_CD


def nearest_centres(embeddings_ND: Embeddings, centres_CD: Embeddings, probes: int) -> NDArray[np.int32]:
    """The clusters [N, P] of each embedding, the nearest first."""
    clusters = np.zeros((len(embeddings_ND), min(probes, len(centres_CD))), np.int32)
    for start in range(0, len(embeddings_ND), _BLOCK):
        cosines = embeddings_ND[start : start + _BLOCK] @ centres_CD.T
        for probe in range(clusters.shape[1]):
            found = cosines.argmax(axis=1)
            clusters[start : start + _BLOCK, probe] = found
            cosines[np.arange(len(found)), found] = -np.inf
    return clusters


def similar_pairs(
    embeddings_ND: Embeddings, num_own: int, min_cosine: float
) -> Iterator[tuple[Indices, Indices, NDArray[np.float32]]]:
    """The pairs i < j with at least that cosine, and the cosines; in pieces.

    Args:
        embeddings_ND: Of length one.
        num_own: i is one of so many at the beginning.
        min_cosine: From which on two are a pair.
    """
    for top in range(0, num_own, _BLOCK):
        rows_BD = embeddings_ND[top : min(top + _BLOCK, num_own)]
        for left in range(top, len(embeddings_ND), _BLOCK):
            cosines = rows_BD @ embeddings_ND[left : left + _BLOCK].T
            close = cosines >= min_cosine
            i, j = np.nonzero(np.triu(close, 1) if left == top else close)
            if len(i):
                yield i + top, j + left, cosines[i, j]


def first_common(clusters_a: NDArray[np.int32], clusters_b: NDArray[np.int32]) -> NDArray[np.int32]:
    """The least cluster [K] that both of K pairs [K, P] belong to, which alone reports the pair."""
    common = clusters_a[:, :, None] == clusters_b[:, None, :]
    none = np.iinfo(np.int32).max
    least: NDArray[np.int32] = np.where(common, clusters_a[:, :, None], none).min(axis=(1, 2))
    return least

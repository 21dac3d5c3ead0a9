"""Pairs of images whose embeddings point one way, looked for within clusters: SemDeDup (Abbas et al. 2023).

N images, D width of an embedding, C clusters.
"""

import math
import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

Embeddings = NDArray[np.float32]
_BLOCK = 2048
_ITERATIONS = 10


def cluster_centres(
    sample_ND: Embeddings, num_images: int, num_clusters: int | None, seed: int
) -> Embeddings:
    """Centres [C, D] of length one, by k-means on a sample of embeddings of length one.

    Args:
        sample_ND: The sample.
        num_images: Of the whole dataset.
        num_clusters: Null for the square root of that.
        seed: Of the first centres (k-means++).
    """
    wanted = math.isqrt(num_images) if num_clusters is None else num_clusters
    wanted = max(1, min(wanted, len(sample_ND)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of clusters that no image is nearest to: harmless here
        centres_CD, _ = kmeans2(
            sample_ND, wanted, iter=_ITERATIONS, minit="++", rng=np.random.default_rng(seed)
        )
    lengths = np.linalg.norm(centres_CD, axis=1, keepdims=True)
    return (centres_CD / np.maximum(lengths, 1e-12)).astype(np.float32)


def nearest_centres(embeddings_ND: Embeddings, centres_CD: Embeddings) -> NDArray[np.int64]:
    """The cluster of each embedding."""
    blocks = [
        (embeddings_ND[start : start + _BLOCK] @ centres_CD.T).argmax(axis=1)
        for start in range(0, len(embeddings_ND), _BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int64)


def similar_pairs(
    embeddings_ND: Embeddings, min_cosine: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """All pairs i < j of a cluster with at least that cosine, and the cosines."""
    first, second, cosines = [], [], []
    for start in range(0, len(embeddings_ND), _BLOCK):
        block = embeddings_ND[start : start + _BLOCK] @ embeddings_ND[start:].T
        i, j = np.nonzero(np.triu(block >= min_cosine, 1))
        first.append(i + start)
        second.append(j + start)
        cosines.append(block[i, j])
    if not first:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    return np.concatenate(first), np.concatenate(second), np.concatenate(cosines)

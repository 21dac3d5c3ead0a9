"""Embeddings that point one way are found within their cluster."""

import numpy as np

from pipelines.dedup.semantic import cluster_centres, nearest_centres, similar_pairs


def unit_vectors(count: int, width: int = 16, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_pairs_are_those_of_brute_force() -> None:
    embeddings = unit_vectors(5000, width=4)
    first, second, cosines = similar_pairs(embeddings, 0.9995)
    whole = embeddings @ embeddings.T
    i, j = np.nonzero(np.triu(whole >= 0.9995, 1))
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == set(
        zip(i.tolist(), j.tolist(), strict=True)
    )
    assert len(first) > 50
    assert cosines.min() >= 0.9995


def test_near_copies_share_a_cluster() -> None:
    originals = unit_vectors(2000)
    copies = originals + np.random.default_rng(1).normal(scale=0.02, size=originals.shape).astype(np.float32)
    centres = cluster_centres(originals, 4000, None, seed=0)
    assert len(centres) == 63
    assert np.allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)
    same = nearest_centres(originals, centres) == nearest_centres(copies, centres)
    assert same.mean() > 0.9


def test_centres_are_a_function_of_sample_and_seed() -> None:
    sample = unit_vectors(500)
    assert np.array_equal(cluster_centres(sample, 500, 8, 0), cluster_centres(sample, 500, 8, 0))
    assert not np.array_equal(cluster_centres(sample, 500, 8, 0), cluster_centres(sample, 500, 8, 1))
    assert len(cluster_centres(sample[:3], 10**6, None, 0)) == 3

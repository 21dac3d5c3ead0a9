"""Embeddings that point one way are found within their clusters."""

import numpy as np
import pytest

from pipelines.dedup.semantic import (
    cluster_centres,
    first_common,
    nearest_centres,
    similar_pairs,
    unit_vectors,
)
from pipelines.dedup.tasks import cluster_pairs


def vectors(count: int, width: int = 16, seed: int = 0) -> np.ndarray:
    return unit_vectors(np.random.default_rng(seed).normal(size=(count, width)).astype(np.float16))


def concepts(count: int, width: int, seed: int) -> np.ndarray:
    """Images of some concepts: cosines of about 0.6 within one."""
    rng = np.random.default_rng(seed)
    centres = vectors(count // 50, width, seed)
    return unit_vectors(centres[rng.integers(0, len(centres), count)] + 0.8 * vectors(count, width, seed + 1))


@pytest.mark.parametrize("num_own", [5000, 3000, 0])
def test_pairs_are_those_of_brute_force(num_own: int) -> None:
    embeddings = vectors(5000, width=4)
    pieces = list(similar_pairs(embeddings, num_own, 0.9995))
    pairs = [(i, j) for first, second, _ in pieces for i, j in zip(first, second, strict=True)]
    i, j = np.nonzero(np.triu(embeddings @ embeddings.T >= 0.9995, 1))
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == {(a, b) for a, b in zip(i, j, strict=True) if a < num_own}
    assert all(cosines.min() >= 0.9995 for _, _, cosines in pieces)


def test_equal_embeddings_make_stars_at_distance_0_and_no_others_do() -> None:
    embeddings = vectors(40).astype(np.float16)
    embeddings[[3, 9, 20]] = embeddings[3]
    embeddings[30] = embeddings[5]
    embeddings[30, 0] = np.nextafter(embeddings[5, 0], np.float16(2))
    datasets = np.zeros(40, np.int32)
    datasets[35:] = 1
    embeddings[38] = embeddings[3]
    pieces = list(cluster_pairs(embeddings, datasets, 0.999))
    pairs = {(int(i), int(j)): float(d) for piece in pieces for i, j, d in zip(*piece, strict=True)}
    assert sorted(pairs) == [(3, 9), (3, 20), (3, 38), (5, 30)]
    assert [pairs[pair] == 0 for pair in sorted(pairs)] == [True, True, True, False]


def test_two_probes_miss_less_than_one_in_a_thousand() -> None:
    images = concepts(8000, 64, seed=0)
    noise = vectors(8000, 64, seed=5)
    copies = unit_vectors(0.97 * images + 0.24 * noise)
    near = (images * copies).sum(1) >= 0.95
    centres = cluster_centres(images[::3], 89, seed=0)
    shared = [
        first_common(nearest_centres(images, centres, p), nearest_centres(copies, centres, p)) < 89
        for p in (1, 2)
    ]
    assert near.mean() > 0.5
    assert 0.9 < shared[0][near].mean() < shared[1][near].mean()
    assert shared[1][near].mean() > 0.999


def test_a_pair_belongs_to_the_least_cluster_that_both_are_in() -> None:
    a = np.array([[5, 2], [5, 2], [1, 2], [1, 2]], np.int32)
    b = np.array([[2, 5], [3, 5], [2, 7], [3, 4]], np.int32)
    assert first_common(a, b).tolist() == [2, 5, 2, np.iinfo(np.int32).max]


def test_centres_are_a_function_of_sample_and_seed() -> None:
    sample = vectors(500)
    centres = cluster_centres(sample, 8, 0)
    assert np.array_equal(centres, cluster_centres(sample, 8, 0))
    assert not np.array_equal(centres, cluster_centres(sample, 8, 1))
    assert np.allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)
    assert len(cluster_centres(sample[:3], 1000, 0)) == 3


def test_centres_are_nearer_than_the_first_choice() -> None:
    images = concepts(2000, 32, seed=3)
    centres = cluster_centres(images, 40, seed=0)
    first = images[np.sort(np.random.default_rng(0).choice(2000, 40, replace=False))]
    assert (images @ centres.T).max(1).mean() > (images @ first.T).max(1).mean() + 0.05


def test_more_probes_than_clusters_are_all_clusters() -> None:
    clusters = nearest_centres(vectors(10), vectors(3, seed=1), 4)
    assert sorted(clusters[0].tolist()) == [0, 1, 2]

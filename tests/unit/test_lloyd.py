"""K-means in exact arithmetic: equal bits in every order, and no cluster stays empty."""

import numpy as np
import pytest

from climb.domains.assignment import QUANTUM_BITS, quantize
from climb.domains.lloyd import (
    SQUARE,
    ClusterSums,
    draw_centroids,
    fit_centroids,
    move_centroids,
    sum_clusters,
)

WIDTH = 12


def draw_vectors(n, seed=0, groups=5, noise=0.2):
    """Unit vectors around `groups` directions, multiples of the quantum."""
    rng = np.random.default_rng(seed)
    vectors_ND = np.eye(groups, WIDTH)[np.arange(n) % groups] + rng.normal(size=(n, WIDTH)) * noise
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return quantize(vectors_ND.astype(np.float32))


def fit(vectors_ND, k, max_iterations=30, blocks=1, seed=0):
    rng = np.random.default_rng(seed)
    first_CD = draw_centroids(vectors_ND.astype(np.float64), k, rng)

    def sum_all(centroids_CD):
        parts = np.array_split(vectors_ND, blocks)
        return sum(
            (sum_clusters([p], centroids_CD) for p in parts[1:]),
            sum_clusters(parts[:1], centroids_CD),
        )

    return fit_centroids(first_CD, sum_all, max_iterations, 1e-4, rng)


def test_sums_of_a_block_are_those_of_a_plain_loop():
    vectors_ND, centroids_CD = draw_vectors(300), draw_vectors(7, seed=1).astype(np.float64)
    found = sum_clusters([vectors_ND[:100], vectors_ND[100:]], centroids_CD)
    squared_NC = ((vectors_ND[:, None].astype(np.float64) - centroids_CD) ** 2).sum(axis=2)
    labels_N = squared_NC.argmin(axis=1)
    for cluster in range(7):
        members_ND = vectors_ND[labels_N == cluster].astype(np.float64)
        np.testing.assert_array_equal(found.sums_CD[cluster], members_ND.sum(axis=0))
        assert found.counts_C[cluster] == len(members_ND)
    np.testing.assert_array_equal(
        found.squares_C,
        [int(squared_NC[labels_N == c, c].sum() * SQUARE) for c in range(7)],
    )
    assert found.inertia == pytest.approx(squared_NC.min(axis=1).mean(), rel=1e-12)


def test_order_and_blocks_of_the_vectors_change_no_bit():
    vectors_ND = draw_vectors(500)
    rng = np.random.default_rng(3)
    first_CD = draw_centroids(vectors_ND.astype(np.float64), 20, rng)
    whole = sum_clusters([vectors_ND], first_CD)
    shuffled_ND = vectors_ND[rng.permutation(500)]
    parts = [
        sum_clusters(np.array_split(part, 3), first_CD) for part in np.array_split(shuffled_ND, 4)
    ]
    total = parts[3] + parts[1] + parts[0] + parts[2]
    for name in ("sums_CD", "counts_C", "squares_C"):
        assert getattr(total, name).tobytes() == getattr(whole, name).tobytes(), name


def test_the_planted_groups_are_found_and_the_inertia_falls_in_every_iteration():
    found = fit(draw_vectors(600), 5, blocks=3)
    assert found.is_converged
    assert sorted(found.centroids_CD.argmax(axis=1)) == [0, 1, 2, 3, 4]
    assert list(found.inertias) == sorted(found.inertias, reverse=True)
    assert found.inertias[-1] < 0.35


def test_the_limit_of_iterations_is_kept():
    found = fit(draw_vectors(600), 40, max_iterations=2)
    assert (len(found.inertias), found.is_converged) == (2, False)


def test_centroids_are_multiples_of_the_quantum():
    quanta_CD = fit(draw_vectors(200), 6).centroids_CD * 2.0**QUANTUM_BITS
    np.testing.assert_array_equal(quanta_CD, np.rint(quanta_CD))


def test_an_empty_cluster_gets_half_of_the_cluster_with_the_largest_inertia():
    vectors_ND = draw_vectors(400, groups=2)
    far_D = np.full(WIDTH, -0.25)
    first_CD = np.array([*np.eye(2, WIDTH), far_D])
    total = sum_clusters([vectors_ND], first_CD)
    assert total.counts_C[2] == 0
    largest = total.squares_C.argmax()
    moved_CD = move_centroids(first_CD, total, np.random.default_rng(0))
    mean_D = total.sums_CD[largest] / total.counts_C[largest]
    np.testing.assert_allclose((moved_CD[largest] + moved_CD[2]) / 2, mean_D, atol=2.0**-16)
    assert sum_clusters([vectors_ND], moved_CD).counts_C.min() > 50


def test_a_fit_from_bad_first_centroids_ends_without_an_empty_cluster():
    vectors_ND = draw_vectors(400)
    far_CD = np.full((5, WIDTH), -0.25) * np.arange(1, 6)[:, None]
    first_CD = np.array([*np.eye(2, WIDTH), *far_CD])
    found = fit_centroids(
        first_CD, lambda c: sum_clusters([vectors_ND], c), 50, 1e-4, np.random.default_rng(0)
    )
    assert found.n_emptied >= 5
    assert len(found.centroids_CD) == 7
    assert sum_clusters([vectors_ND], found.centroids_CD).counts_C.min() > 0


def test_no_more_centroids_are_drawn_than_vectors_are_distinct():
    vectors_ND = np.repeat(draw_vectors(3), 10, axis=0).astype(np.float64)
    first_CD = draw_centroids(vectors_ND, 8, np.random.default_rng(0))
    np.testing.assert_array_equal(np.unique(first_CD, axis=0), np.unique(vectors_ND, axis=0))


def test_equal_vectors_are_one_cluster_of_no_inertia():
    equal_ND = np.repeat(draw_vectors(1), 30, axis=0)
    found = fit_centroids(
        np.repeat(equal_ND[:1], 2, axis=0).astype(np.float64),
        lambda c: sum_clusters([equal_ND], c), 5, 1e-4, np.random.default_rng(0),
    )  # fmt: skip
    assert found.inertias[-1] == 0.0
    assert len(found.centroids_CD) == 1


def test_first_centroids_are_spread_better_than_random_ones():
    vectors_ND = draw_vectors(2000, groups=10, noise=0.05).astype(np.float64)
    vectors_ND = vectors_ND[np.argsort(np.arange(2000) % 10, kind="stable")]  # group after group
    found = []
    for seed in range(10):
        drawn_CD = draw_centroids(vectors_ND, 10, np.random.default_rng(seed))
        assert len(np.unique(drawn_CD, axis=0)) == 10
        found.append(len(np.unique(drawn_CD.argmax(axis=1))))
    assert np.mean(found) > 9  # random ones hit 6.5 of 10 groups


def test_vectors_are_rounded_to_the_quantum_before_they_are_added():
    exact_ND = draw_vectors(50)
    noisy_ND = exact_ND + np.float32(2.0 ** -(QUANTUM_BITS + 3))
    found = sum_clusters([noisy_ND], np.eye(3, WIDTH)).sums_CD
    np.testing.assert_array_equal(found, sum_clusters([exact_ND], np.eye(3, WIDTH)).sums_CD)


def test_sums_need_no_vectors():
    empty = sum_clusters([], np.eye(3))
    full = sum_clusters([draw_vectors(9, groups=3)[:, :3]], np.eye(3))
    assert ((empty + full).sums_CD == full.sums_CD).all()
    assert isinstance(empty + full, ClusterSums)

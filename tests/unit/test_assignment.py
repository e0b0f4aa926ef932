"""The assignment is exact in any batch, and sums of quanta do not depend on the order."""

import numpy as np
import pytest

from climb.domains.assignment import NearestCentroid, canonicalize_centroids, quantize
from climb.errors import ComponentError


def draw_unit_vectors(n, width, seed=0):
    vectors_ND = np.random.default_rng(seed).normal(size=(n, width))
    return (vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)).astype(np.float32)


def assign_by_brute_force(vectors_ND, centroids_CD):
    """Assign in integer arithmetic on quanta, without rounding."""
    x_ND = np.rint(vectors_ND.astype(np.float64) * 2**16).astype(np.int64)
    c_CD = np.rint(centroids_CD * 2**16).astype(np.int64)
    squared_NC = np.stack([np.square(x_ND - c_D).sum(axis=1) for c_D in c_CD], axis=1)
    return squared_NC.argmin(axis=1), np.sqrt(squared_NC.min(axis=1)) / 2**16


def test_sums_of_quantized_vectors_are_the_same_in_every_order():
    vectors_ND = np.random.default_rng(0).normal(size=(5000, 4))
    shuffled_ND = np.random.default_rng(1).permutation(vectors_ND)

    def sum_in_order(rows):
        total_D = np.zeros(4)
        for row_D in rows:
            total_D += row_D
        return total_D

    exact_D = sum_in_order(quantize(vectors_ND))
    np.testing.assert_array_equal(sum_in_order(quantize(shuffled_ND)), exact_D)
    assert (sum_in_order(vectors_ND) != sum_in_order(shuffled_ND)).any(), (
        "without quanta the order changes the sum"
    )


def test_quantizing_changes_a_value_by_at_most_half_a_quantum_and_only_once():
    vectors_ND = draw_unit_vectors(100, 16)
    once_ND = quantize(vectors_ND)
    assert once_ND.dtype == np.float32
    assert np.abs(once_ND - vectors_ND).max() <= 2.0**-17
    np.testing.assert_array_equal(quantize(once_ND), once_ND)
    np.testing.assert_array_equal(quantize(vectors_ND.astype(float)), once_ND)


def test_centroids_are_sorted_without_duplicates():
    centroids_CD = np.array([[0.5, 0.0], [-0.5, 0.25], [0.5, 1e-7], [-0.5, 0.125]])
    expected_CD = np.array([[-0.5, 0.125], [-0.5, 0.25], [0.5, 0.0]])
    np.testing.assert_array_equal(canonicalize_centroids(centroids_CD), expected_CD)
    np.testing.assert_array_equal(canonicalize_centroids(centroids_CD[::-1]), expected_CD)


@pytest.mark.parametrize(("n", "c", "width"), [(3000, 50, 64), (300, 1, 8), (1, 5, 3), (0, 4, 4)])
def test_the_assignment_equals_brute_force_in_whole_numbers(n, c, width):
    vectors_ND = draw_unit_vectors(n, width)
    centroids_CD = canonicalize_centroids(0.7 * draw_unit_vectors(c, width, seed=1).astype(float))
    labels_N, distances_N = NearestCentroid(centroids_CD).assign(vectors_ND)
    expected_N, expected_distances_N = assign_by_brute_force(vectors_ND, centroids_CD)
    np.testing.assert_array_equal(labels_N, expected_N)
    np.testing.assert_array_equal(distances_N, expected_distances_N)


def test_vectors_between_centroids_one_quantum_apart_are_decided_exactly():
    """Single precision cannot distinguish these centroids: the float32 ranking alone is wrong."""
    rng = np.random.default_rng(3)
    middle_D = draw_unit_vectors(1, 384, seed=2)[0].astype(float)
    centroids_CD = canonicalize_centroids(middle_D + rng.integers(-1, 2, size=(40, 384)) * 2.0**-16)
    vectors_ND = (middle_D + rng.integers(-2, 3, size=(500, 384)) * 2.0**-16).astype(np.float32)
    expected_N, _ = assign_by_brute_force(vectors_ND, centroids_CD)
    c_CD = centroids_CD.astype(np.float32)
    half_squares_C = np.square(c_CD).sum(axis=1) / 2
    ranked_N = (vectors_ND @ c_CD.T - half_squares_C).argmax(axis=1)
    assert (ranked_N != expected_N).any()
    np.testing.assert_array_equal(NearestCentroid(centroids_CD).assign(vectors_ND)[0], expected_N)


def test_a_tie_goes_to_the_lower_number():
    centroids_CD = np.array([[-0.5, 0.0], [0.0, -0.5], [0.0, 0.5], [0.5, 0.0]])
    labels_N, distances_N = NearestCentroid(centroids_CD).assign(np.zeros((3, 2), dtype=np.float32))
    assert labels_N.tolist() == [0, 0, 0]
    assert distances_N.tolist() == [0.5, 0.5, 0.5]


def test_the_batch_size_changes_no_label_and_no_distance():
    vectors_ND = draw_unit_vectors(5000, 100)
    centroids_CD = canonicalize_centroids(draw_unit_vectors(64, 100, seed=1).astype(float))
    whole = NearestCentroid(centroids_CD).assign(vectors_ND)
    for size in (1, 7, 4999):
        parts = [
            NearestCentroid(centroids_CD).assign(vectors_ND[i : i + size])
            for i in range(0, 5000, size)
        ]
        for one, joined in zip(whole, zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(joined), one)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_a_vector_that_is_not_finite_is_an_error(bad):
    vectors_ND = draw_unit_vectors(4, 3)
    vectors_ND[2, 1] = bad
    with pytest.raises(ComponentError, match="NaN, inf"):
        NearestCentroid(np.zeros((2, 3))).assign(vectors_ND)


def test_different_widths_are_an_error():
    with pytest.raises(ComponentError, match=r"\(4, 3\).*\(2, 5\)"):
        NearestCentroid(np.zeros((2, 5))).assign(draw_unit_vectors(4, 3))

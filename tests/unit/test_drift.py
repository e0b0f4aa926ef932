"""Drift: figures against the documents of the fit, and the rule for clustering again."""

import numpy as np
import pytest

from climb.domains.drift import (
    FAR_SHARE,
    PAYS_FROM,
    Distances,
    choose_bin_width,
    find_far_distance,
    measure_drift,
)
from climb.errors import TableError


def count(clusters_N, distances_N, far_distance, n_clusters=4):
    """Count the documents of clusters, one by one."""
    counted = np.zeros((3, n_clusters))
    for cluster, distance in zip(clusters_N, distances_N, strict=True):
        counted[:, cluster] += 1, distance >= far_distance, distance**2
    return Distances(counted[0].astype(int), counted[1].astype(int), counted[2])


def bin_counts(distances_N, width):
    return np.bincount(np.floor(distances_N / width).astype(int))


@pytest.mark.parametrize("scale", [1e-6, 0.3, 1.0, 1.999, 2.0, 700.0])
def test_at_most_one_percent_of_the_fit_is_far_whatever_the_length_of_the_vectors(scale):
    distances_N = np.random.default_rng(0).uniform(0.2, 1.0, 5_000) * scale
    width = choose_bin_width(distances_N.max())
    far = find_far_distance(bin_counts(distances_N, width), width)
    assert FAR_SHARE / 2 < (distances_N >= far).mean() <= FAR_SHARE
    assert np.log2(width) % 1 == 0  # so the edges of bins are exact
    assert 512 <= distances_N.max() / width <= 1024


def test_no_document_is_far_if_all_have_the_same_distance_or_none():
    for distance in (0.0, 0.5):
        width = choose_bin_width(distance)
        far = find_far_distance(bin_counts(np.full(50, distance), width), width)
        assert far > distance


def test_the_figures_are_those_of_the_documents():
    fit = count([0, 0, 1, 1, 2], [0.1, 0.2, 0.3, 0.1, 0.9], far_distance=0.8)
    now = count([0, 0, 1, 1, 2, 3, 3, 0], [0.1, 0.2, 0.3, 0.1, 0.9, 0.9, 0.8, 0.2], 0.8)
    drift = measure_drift(fit, now, domain_C=np.array([0, 0, 1, 2]))
    assert (drift.n_fit, drift.n_now) == (5, 8)
    assert drift.far_share_fit == pytest.approx(1 / 5)
    assert drift.far_share == pytest.approx(3 / 8)
    assert drift.far_share_new == pytest.approx(2 / 3)
    # Domains: 4, 1, 0 of 5 documents; now 5, 1, 2 of 8.
    shift = (abs(4 / 5 - 5 / 8) + abs(1 / 5 - 1 / 8) + 2 / 8) / 2
    assert drift.domain_shift == pytest.approx(shift)
    before = (0.01 + 0.04 + 0.09 + 0.01 + 0.81) / 5
    after = (0.01 + 0.04 + 0.09 + 0.01 + 0.81 + 0.81 + 0.64 + 0.04) / 8
    assert drift.distance_growth == pytest.approx(after / before - 1)
    figures = drift.figures()
    assert figures["far_share_new"] == drift.far_share_new
    assert figures["clustering_again_pays"] == 1.0


@pytest.mark.parametrize(("growth", "pays"), [(PAYS_FROM - 0.001, False), (PAYS_FROM, True)])
def test_clustering_again_pays_from_a_growth_of_the_mean_squared_distance(growth, pays):
    fit = Distances(np.array([100]), np.array([1]), np.array([100.0]))
    now = Distances(np.array([200]), np.array([2]), np.array([200.0 * (1 + growth)]))
    drift = measure_drift(fit, now, np.array([0]))
    assert drift.pays is pays
    assert ("run `climb cluster --refit`" in str(drift)) is pays
    assert ("a new clustering pays from a growth of 2%" in str(drift)) is not pays


def test_after_a_removal_nothing_is_reported_about_added_documents():
    fit = count([0, 1, 1], [0.1, 0.9, 0.2], 0.8)
    drift = measure_drift(fit, count([0, 1], [0.1, 0.2], 0.8), np.arange(4))
    assert drift.far_share_new is None
    assert "far_share_new" not in drift.figures()
    assert "added" not in str(drift)
    assert drift.far_share == 0.0


def test_documents_equal_to_their_centroids_drift_with_the_first_that_differs():
    fit = count([0, 1], [0.0, 0.0], 0.5)
    assert not measure_drift(fit, count([0, 1, 1], [0.0] * 3, 0.5), np.arange(4)).pays
    assert measure_drift(fit, count([0, 1, 1], [0.0, 0.0, 0.1], 0.5), np.arange(4)).pays


def test_clusters_without_documents_are_an_error():
    with pytest.raises(TableError, match="have 0 now; run `climb cluster --refit`"):
        measure_drift(count([0], [0.1], 1.0), count([], [], 1.0), np.arange(4))

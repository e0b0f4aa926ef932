"""Pruning of clusters by scores, and merging by Ward linkage."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from climb.domains.merge import compute_ward_linkage, compute_weighted_ward_linkage, merge
from climb.domains.prune import prune, prune_to_share
from climb.domains.shares import compute_token_shares
from climb.errors import ConfigError

NAMES = ("education", "rules")
SCORES_CS = np.array([[3.0, 4.0], [2.9, 4.0], [5.0, 1.0], [1.0, 1.0]])


def draw_blobs(n=40, groups=4, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, 6)) * 3
    return centres[np.arange(n) % groups] + rng.normal(size=(n, 6)) * 0.1


def merge_clusters(centroids_CD, sizes_C=None, height=None, n_domains=None, weighted=False):
    sizes_C = np.ones(len(centroids_CD), dtype=np.int64) if sizes_C is None else sizes_C
    return merge(centroids_CD, sizes_C, height=height, n_domains=n_domains, weighted=weighted)


def is_same_partition(one, two):
    return len(set(zip(one, two, strict=True))) == len(set(one)) == len(set(two))


def test_a_cluster_is_pruned_if_any_score_is_below_its_threshold_and_the_reason_names_it():
    kept_C, reasons = prune(SCORES_CS, NAMES, {"education": 3.0, "rules": 2.0})
    assert kept_C.tolist() == [True, False, False, False]
    assert reasons == [
        None,
        "education 2.9 < 3",
        "rules 1 < 2",
        "education 1 < 3; rules 1 < 2",
    ]


def test_without_thresholds_every_cluster_is_kept():
    kept_C, reasons = prune(SCORES_CS, NAMES, {})
    assert kept_C.all()
    assert reasons == [None] * 4


def test_a_threshold_for_an_unknown_score_lists_the_scores():
    with pytest.raises(ConfigError, match=r"unknown scores 'advert'.*education, rules"):
        prune(SCORES_CS, NAMES, {"advert": 2.0})


@pytest.mark.parametrize(
    ("share", "kept"),
    # Mean scores 3.5, 3.45, 3, 1; tokens 40, 10, 30, 20.
    [(0.01, [0]), (0.4, [0]), (0.41, [0, 1]), (0.51, [0, 1, 2]), (0.8, [0, 1, 2]), (1.0, range(4))],
)
def test_the_best_clusters_are_kept_until_the_share_is_reached(share, kept):
    kept_C, reasons = prune_to_share(SCORES_CS, np.array([40, 10, 30, 20]), share)
    assert np.flatnonzero(kept_C).tolist() == list(kept)
    assert [reason is None for reason in reasons] == kept_C.tolist()


def test_a_share_that_is_reached_exactly_keeps_no_further_cluster():
    kept_C, reasons = prune_to_share(np.array([[5.0], [1.0]]), np.array([7, 93]), 0.07)
    assert 0.07 * 100 > 7  # in floating point
    assert kept_C.tolist() == [True, False]
    assert reasons[1].endswith(
        ": the kept clusters (lowest mean: 5) have at least 0.07 of all tokens"
    )


def test_of_equal_clusters_the_lower_number_is_kept():
    kept_C, _ = prune_to_share(np.ones((3, 1)), np.array([1, 1, 1]), 0.5)
    assert kept_C.tolist() == [True, True, False]


def test_a_share_without_scores_is_an_error():
    with pytest.raises(ConfigError, match=r"score\.scorers is empty"):
        prune_to_share(np.empty((3, 0)), np.array([1, 1, 1]), 0.5)


@pytest.mark.parametrize("height", [0.3, 0.8, 5.0])
def test_a_cut_at_a_height_equals_scipys(height):
    centroids_CD = draw_blobs()
    expected = fcluster(linkage(centroids_CD, "ward"), height, criterion="distance")
    assert len(set(expected)) > 1
    assert is_same_partition(merge_clusters(centroids_CD, height=height), expected)


@pytest.mark.parametrize("n_domains", [2, 4, 13, 40])
def test_merging_gives_the_configured_number_of_domains(n_domains):
    labels_C = merge_clusters(draw_blobs(), n_domains=n_domains)
    assert set(labels_C) == set(range(n_domains))


def test_equal_centroids_give_the_configured_number_of_domains_too():
    assert set(merge_clusters(np.ones((5, 2)), n_domains=3)) == {0, 1, 2}


def test_more_domains_than_clusters_merge_nothing():
    assert merge_clusters(draw_blobs(5), n_domains=9).tolist() == [0, 1, 2, 3, 4]


def test_domains_are_numbered_in_order_of_their_first_cluster():
    assert merge_clusters(np.array([[9.0], [0.0], [9.1], [0.1], [4.0]]), n_domains=3).tolist() == [
        *(0, 1, 0, 1, 2)
    ]


def test_weighted_ward_with_equal_weights_equals_scipys():
    centroids_CD = draw_blobs(60, 7)
    pairs, heights = compute_weighted_ward_linkage(centroids_CD, np.ones(60))
    np.testing.assert_allclose(heights, compute_ward_linkage(centroids_CD)[1], rtol=1e-9)
    assert pairs.shape == (59, 2)
    for n_domains in (2, 7, 30):
        one = merge_clusters(centroids_CD, n_domains=n_domains)
        two = merge_clusters(centroids_CD, np.full(60, 5), n_domains=n_domains, weighted=True)
        assert is_same_partition(one, two)


def test_a_cluster_of_n_documents_weighs_as_much_as_n_clusters_of_one():
    """Ward linkage of all documents does the same after it has merged equal ones at height 0."""
    centroids_CD = draw_blobs(8, 8, seed=4)
    sizes_C = np.array([1, 5, 2, 9, 1, 3, 7, 4])
    _, heights = compute_weighted_ward_linkage(centroids_CD, sizes_C.astype(float))
    _, repeated = compute_ward_linkage(np.repeat(centroids_CD, sizes_C, axis=0))
    np.testing.assert_allclose(heights, repeated[-7:], rtol=1e-6)


def test_weights_change_which_clusters_merge():
    """1 is nearer to 0 than 2.2 is, but the clusters at 0 and 1 are heavy, the one at 2.2 light."""
    centroids_CD, sizes_C = np.array([[0.0], [1.0], [2.2]]), np.array([1000, 1000, 1])
    assert merge_clusters(centroids_CD, sizes_C, n_domains=2).tolist() == [0, 0, 1]
    assert merge_clusters(centroids_CD, sizes_C, n_domains=2, weighted=True).tolist() == [0, 1, 1]


def test_weights_are_relative_to_the_mean_cluster_so_that_heights_stay_comparable():
    centroids_CD = draw_blobs()
    few, many = (
        merge_clusters(centroids_CD, np.full(40, n), height=0.8, weighted=True) for n in (1, 1000)
    )
    np.testing.assert_array_equal(few, many)


def test_a_height_that_merges_everything_names_the_key_and_the_last_height():
    last = linkage(draw_blobs(), "ward")[-1, 2]
    with pytest.raises(ConfigError, match=rf"prune\.merge_height 1000 .* below {last:.4g}"):
        merge_clusters(draw_blobs(), height=1000.0)


def test_a_single_domain_is_an_error():
    with pytest.raises(ConfigError, match=r"prune\.domains is 1"):
        merge_clusters(draw_blobs(), n_domains=1)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_single_kept_cluster_is_an_error(weighted):
    with pytest.raises(ConfigError, match="pruning kept one cluster"):
        merge_clusters(draw_blobs(1), height=1.5, weighted=weighted)


def test_token_shares_sum_to_one():
    np.testing.assert_allclose(
        compute_token_shares(np.array([1, 3, 4])), [0.125, 0.375, 0.5], rtol=1e-15
    )


def test_a_group_below_the_smallest_size_joins_its_nearest():
    centroids_CD = np.array([[0.0], [0.1], [5.0], [5.1], [1.5]])
    sizes_C = np.array([50, 40, 60, 30, 1])
    plain = {"height": 1.0, "n_domains": None, "weighted": False}
    assert merge(centroids_CD, sizes_C, **plain).tolist() == [0, 0, 1, 1, 2]
    assert merge(centroids_CD, sizes_C, **plain, min_documents=10).tolist() == [0, 0, 1, 1, 0]


def test_small_groups_do_not_count_as_domains():
    """With a single document far away, three groups would be two domains and one document."""
    centroids_CD = np.array([[0.0], [1.0], [5.0], [6.0], [40.0]])
    sizes_C = np.array([50, 40, 60, 30, 1])
    chosen = {"height": None, "n_domains": 3, "weighted": False}
    assert len(set(merge(centroids_CD, sizes_C, **chosen).tolist())) == 3
    labels_C = merge(centroids_CD, sizes_C, **chosen, min_documents=10)
    assert np.bincount(labels_C, weights=sizes_C).min() >= 10
    assert len(set(labels_C.tolist())) == 3


def test_small_groups_that_join_each_other_make_no_further_domain():
    """The groups of 6 and 2 documents are neighbors, and together have more than 7."""
    centroids_CD = np.array([[21.0], [26.0], [6.0], [4.0], [16.0]])
    sizes_C = np.array([6, 8, 10, 8, 2])
    chosen = {"height": None, "n_domains": 3, "weighted": False}
    assert merge(centroids_CD, sizes_C, **chosen, min_documents=7).tolist() == [0, 0, 1, 2, 0]


@pytest.mark.parametrize("seed", range(20))
def test_every_domain_has_the_smallest_size(seed):
    rng = np.random.default_rng(seed)
    centroids_CD, sizes_C = rng.normal(size=(30, 4)), rng.integers(1, 60, 30)
    for chosen in ({"height": 1.0, "n_domains": None}, {"height": None, "n_domains": 8}):
        labels_C = merge(centroids_CD, sizes_C, **chosen, weighted=False, min_documents=40)
        assert np.bincount(labels_C, weights=sizes_C).min() >= 40
        assert chosen["n_domains"] is None or labels_C.max() < chosen["n_domains"]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            {"height": 2.0, "n_domains": None},
            r"^prune\.min_domain_documents is 90: .* one domain of 100 documents remains",
        ),
        (
            {"height": None, "n_domains": 2},
            r"^no cut of the dendrogram leaves two groups of at least 90 documents each.*"
            r"prune\.min_domain_documents",
        ),
    ],
)
def test_too_few_documents_for_two_domains_are_an_error_with_the_key(chosen, message):
    centroids_CD, sizes_C = np.array([[0.0], [1.0], [9.0]]), np.array([50, 30, 20])
    with pytest.raises(ConfigError, match=message):
        merge(centroids_CD, sizes_C, **chosen, weighted=False, min_documents=90)

"""A mixed dataset has the wanted tokens of every domain, to within half a document."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from climb.dataset.card import list_deviations
from climb.dataset.selection import (
    DomainQuota,
    allocate_tokens,
    check_constraints,
    find_cut_bucket,
    is_before_cut,
)
from climb.errors import MixtureError, TableError
from climb.mixture import Constraint, Constraints

SIZES = st.lists(st.integers(1, 500), min_size=1, max_size=60)


def select_tokens(tokens_N, wanted, n_buckets):
    """Tokens that a domain gives, selected through the histogram as job mix does."""
    quota = DomainQuota("d", 1.0, int(tokens_N.sum()), wanted)
    bucket_N = np.arange(len(tokens_N)) * n_buckets // len(tokens_N)
    tokens_B = np.bincount(bucket_N, weights=tokens_N, minlength=n_buckets).astype(np.int64)
    edge = find_cut_bucket(tokens_B, quota.cut)
    inside_N = bucket_N == edge.bucket
    ends_N = edge.start + np.cumsum(tokens_N[inside_N])
    selected_N = is_before_cut(ends_N, tokens_N[inside_N], quota.cut)
    partial = tokens_N[bucket_N < edge.bucket].sum() + tokens_N[inside_N][selected_N].sum()
    return quota.copies * quota.available_tokens + int(partial)


@given(SIZES, st.integers(1, 5000), st.integers(1, 16))
def test_the_tokens_miss_the_wanted_number_by_at_most_half_of_one_document(
    sizes, wanted, n_buckets
):
    tokens_N = np.array(sizes)
    assert abs(select_tokens(tokens_N, wanted, n_buckets) - wanted) <= tokens_N.max() / 2


@given(SIZES, st.integers(0, 5000))
def test_the_histogram_finds_the_same_cut_as_one_pass_over_all(sizes, wanted):
    tokens_N = np.array(sizes)
    selected_N = is_before_cut(np.cumsum(tokens_N), tokens_N, wanted % tokens_N.sum())
    partial = tokens_N[selected_N].sum()
    copies = wanted // tokens_N.sum() * tokens_N.sum()
    for n_buckets in (1, 3, 64):
        assert select_tokens(tokens_N, wanted, n_buckets) == copies + partial


@given(SIZES, st.integers(0, 5000))
def test_the_selected_documents_are_the_first_in_hash_order(sizes, cut):
    tokens_N = np.array(sizes)
    selected_N = is_before_cut(np.cumsum(tokens_N), tokens_N, cut)
    assert selected_N[: selected_N.sum()].all()


@pytest.mark.parametrize(("cut", "n"), [(0, 0), (4, 0), (5, 0), (6, 1), (10, 1), (15, 1), (16, 2)])
def test_a_document_across_the_cut_is_selected_if_that_brings_the_sum_nearer(cut, n):
    tokens_N = np.array([10, 10])
    assert is_before_cut(np.cumsum(tokens_N), tokens_N, cut).sum() == n


def test_whole_copies_come_first():
    quota = DomainQuota("d", 0.5, available_tokens=100, wanted_tokens=250)
    assert (quota.copies, quota.cut) == (2, 50)


def test_tokens_are_allocated_by_weight_and_domains_of_weight_zero_are_left_out():
    quotas = allocate_tokens({"a": 0.25, "c": 0.75}, {"c": 10, "b": 10, "a": 10}, 101)
    assert [(quota.domain, quota.wanted_tokens) for quota in quotas] == [("a", 25), ("c", 76)]


def test_a_mixture_of_unknown_domains_is_an_error_that_lists_the_domains():
    with pytest.raises(
        TableError, match=r"unknown domains x; the domains of table clusters are a, b"
    ):
        allocate_tokens({"a": 0.5, "x": 0.5}, {"a": 1, "b": 1}, 10)


def test_weight_on_a_domain_without_tokens_is_an_error():
    with pytest.raises(TableError, match="domains without tokens: a"):
        allocate_tokens({"a": 1.0}, {"a": 0}, 10)


def test_a_dataset_that_violates_a_constraint_of_the_search_is_an_error():
    weights, tokens = {"a": 0.6, "b": 0.4, "c": 0.0}, {"a": 10, "b": 10, "c": 10}
    own = (Constraint(name="b", domains=("b",), max_epochs=2.0),)
    constraints = Constraints(target_tokens=50, max_epochs=3.0, domain_constraints=own)
    check_constraints(weights, tokens, constraints)
    with pytest.raises(MixtureError) as caught:
        check_constraints(weights, tokens, replace(constraints, target_tokens=60))
    message = str(caught.value)
    assert "a dataset of 60 tokens of this mixture violates the constraints" in message
    assert "a: weight 0.6 is above its upper bound 0.5 (search.max_epochs 3 * 10 tokens" in message
    assert "b: weight 0.4 is above its upper bound 0.3333 (search.constraints 'b': max_" in message
    with pytest.raises(MixtureError, match=r"dataset of 1,000 tokens .* give 80 tokens"):
        check_constraints(weights, tokens, replace(constraints, target_tokens=1_000))


def test_domains_that_change_the_mixture_are_named_and_tiny_ones_are_not():
    tokens = {"short": 889, "near": 990, "tiny": 12, "long": 1_111}
    domains = {n: {"tokens": t, "wanted_tokens": 1_000} for n, t in tokens.items()}
    domains["tiny"]["wanted_tokens"] = 0
    found = list_deviations({"domains": domains, "wanted_tokens": 11_000})
    assert [line.split(" has ")[0] for line in found] == ["long", "short"]
    assert found[0].startswith("long has 1,111 tokens instead of 1,000, because ")

"""A mixed dataset holds the wanted tokens of every domain, to within half a document."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from climb.errors import MixtureError, TableError
from climb.limits import Limit, Limits
from climb.mixing import Portion, boundary, check_limits, portions, taken

SIZES = st.lists(st.integers(1, 500), min_size=1, max_size=60)


def mixed_tokens(tokens_N, wanted, n_buckets):
    """Tokens that a domain gives, through the histogram, as the job does it."""
    share = Portion("d", 1.0, int(tokens_N.sum()), wanted)
    bucket_N = np.arange(len(tokens_N)) * n_buckets // len(tokens_N)
    tokens_B = np.bincount(bucket_N, weights=tokens_N, minlength=n_buckets).astype(np.int64)
    edge = boundary(tokens_B, share.rest)
    inside_N = bucket_N == edge.bucket
    ends_N = edge.start + np.cumsum(tokens_N[inside_N])
    more = taken(ends_N, tokens_N[inside_N], share.rest)
    rest = tokens_N[bucket_N < edge.bucket].sum() + tokens_N[inside_N][more].sum()
    return share.copies * share.tokens + int(rest)


@given(SIZES, st.integers(1, 5000), st.integers(1, 16))
def test_the_tokens_miss_what_is_wanted_by_at_most_half_of_one_document(sizes, wanted, n_buckets):
    tokens_N = np.array(sizes)
    assert abs(mixed_tokens(tokens_N, wanted, n_buckets) - wanted) <= tokens_N.max() / 2


@given(SIZES, st.integers(0, 5000))
def test_the_histogram_finds_the_same_cut_as_one_pass_over_all(sizes, wanted):
    tokens_N = np.array(sizes)
    plain = tokens_N[taken(np.cumsum(tokens_N), tokens_N, wanted % tokens_N.sum())].sum()
    copies = wanted // tokens_N.sum() * tokens_N.sum()
    for n_buckets in (1, 3, 64):
        assert mixed_tokens(tokens_N, wanted, n_buckets) == copies + plain


@given(SIZES, st.integers(0, 5000))
def test_what_is_taken_is_the_beginning_of_the_hash_order(sizes, rest):
    tokens_N = np.array(sizes)
    taken_N = taken(np.cumsum(tokens_N), tokens_N, rest)
    assert taken_N[: taken_N.sum()].all()


@pytest.mark.parametrize(("rest", "n"), [(0, 0), (4, 0), (5, 0), (6, 1), (10, 1), (15, 1), (16, 2)])
def test_a_document_across_the_mark_is_taken_when_the_sum_then_lies_nearer(rest, n):
    tokens_N = np.array([10, 10])
    assert taken(np.cumsum(tokens_N), tokens_N, rest).sum() == n


def test_whole_copies_come_first():
    share = Portion("d", 0.5, tokens=100, wanted=250)
    assert (share.copies, share.rest) == (2, 50)


def test_tokens_are_shared_out_by_weight_and_domains_of_none_are_left_out():
    shares = portions({"a": 0.25, "c": 0.75}, {"c": 10, "b": 10, "a": 10}, 101)
    assert [(s.domain, s.wanted) for s in shares] == [("a", 25), ("c", 76)]


def test_a_mixture_of_other_domains_is_an_error_that_names_both():
    with pytest.raises(TableError, match=r"weighs x, .* are a, b"):
        portions({"a": 0.5, "x": 0.5}, {"a": 1, "b": 1}, 10)


def test_a_domain_without_tokens_cannot_be_wanted():
    with pytest.raises(TableError, match="wants tokens of a"):
        portions({"a": 1.0}, {"a": 0}, 10)


def test_a_dataset_breaks_no_limit_of_the_search():
    weights, tokens = {"a": 0.6, "b": 0.4, "c": 0.0}, {"a": 10, "b": 10, "c": 10}
    rules = (Limit(name="b", domains=("b",), max_epochs=2.0),)
    limits = Limits(target_tokens=50, max_epochs=3.0, rules=rules)
    check_limits(weights, tokens, limits)
    with pytest.raises(MixtureError) as caught:
        check_limits(weights, tokens, replace(limits, target_tokens=60))
    assert "a 0.6, at most 0.5 (search.max_epochs 3 of its 10 tokens)" in str(caught.value)
    assert "b 0.4, at most 0.3333 (search.limits 'b': max_epochs 2 of its" in str(caught.value)
    with pytest.raises(MixtureError, match=r"dataset of 1,000 tokens .* give 80 tokens"):
        check_limits(weights, tokens, replace(limits, target_tokens=1_000))

"""The numbers of a report: counts of one, and values that four decimals would not show."""

import pytest
from small_search import small_search
from tracked_rows import Rows, finished

from climb import tables
from climb.config import load
from climb.report import charts, render
from climb.report.formats import number, signed
from climb.search import Gain
from climb.search.knowledge_gradient import FurtherRound
from climb.search.records import HalvingRecord
from climb.spark.results.report import read_report


@pytest.fixture
def store(tmp_path):
    store = Rows(tmp_path)
    store.put(tables.TRIALS, list(small_search().rows))
    return store


def test_a_count_of_one_is_singular(store):
    halving = HalvingRecord(n_stopped=1, n_tokens=3_000_000, n_tokens_in_full=4_000_000)
    plan = small_search().result.plan
    store.put(tables.MIXTURES, [finished(halving=halving, plan=plan)])
    page = render(read_report(store, load()))
    assert "0 target models; 1 trial failed; 1 trial stopped early" in page
    assert str(halving).startswith("1 trial stopped early, so 3,000,000 of 4,000,000 tokens")


@pytest.mark.parametrize(("more", "title"), [(1, "1 smaller domain<"), (2, "2 smaller domains<")])
def test_the_chart_counts_the_domains_that_it_sums(more, title):
    n = charts.MAX_DOMAINS + more
    weights = {f"d{i:02d}": 1 / n for i in range(n)}
    mixture = small_search().result.recommended.model_copy(update={"weights": weights})
    assert title in charts.mixture_chart([mixture, mixture], [])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (4e-5, "+0.000040"),
        (1.46e-4, "+0.00015"),
        (-9.6e-4, "\N{MINUS SIGN}0.00096"),
        (0.001, "+0.0010"),
        (0.02345678, "+0.0235"),
        (12.0, "+12.0000"),
        (0.0, "+0.0000"),
        (-1e-17, "+0.0000"),
    ],
)
def test_small_values_have_two_significant_digits_and_others_four_decimals(value, shown):
    assert signed(value) == shown
    assert number(value) == shown.lstrip("+")


def test_small_gains_of_the_search_and_of_a_further_round_are_not_called_zero(store):
    gain = Gain(mean=4e-5, low=1e-5, high=1.4e-4, p_better=0.99, n_pairs=3)
    further = FurtherRound(expected_gain=4e-5, n_trials=16)
    fields = {"measured_gains": {"natural": gain}, "further_round": further}
    result = small_search().result.model_copy(update=fields)
    row = {"search": "default", "method": "recommended", "result": result.model_dump_json()}
    store.put(tables.MIXTURES, [row])
    page = render(read_report(store, load()))
    assert "+0.000010 to +0.00014" in page
    assert "an expected gain of +0.000040 in score" in page
    assert "it would not help" not in page

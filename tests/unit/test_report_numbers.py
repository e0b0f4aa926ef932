"""The numbers of a report: counts of one, and values that four decimals would not show."""

import pytest
from small_search import small_search
from tracked_rows import Rows, finished

from climb import tables
from climb.config import load
from climb.report import charts, render
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

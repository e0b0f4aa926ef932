"""A search multiplies small matrices with one thread, whatever the number of cores."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from climb.config import load
from climb.errors import SearchError
from climb.predictor.ridge import RidgePredictor
from climb.search import Problem, SearchState, propose, recommend, smallest_change
from climb.search.parallel import map_fits
from climb.search.searchers.ucb import UCBSearcher
from climb.testing.world import PlantedWorld


def count_threads():
    """The largest number of threads of a linear algebra library in this process."""
    return max(lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas")


@dataclass(frozen=True, kw_only=True)
class CountingSearcher(UCBSearcher):
    """Notes the threads at each question."""

    seen: list[int] = field(default_factory=list)

    def propose(self, state, round_, n):
        self.seen.append(count_threads())
        return super().propose(state, round_, n)

    def recommend(self, state):
        self.seen.append(count_threads())
        return super().recommend(state)


@pytest.fixture
def two_threads():
    """A process whose linear algebra has two threads, as on a machine with two cores."""
    with threadpool_limits(limits=2, user_api="blas"):
        if count_threads() != 2:
            pytest.skip("the linear algebra library cannot be set to two threads")
        yield


def make_trials():
    """A problem and eight trials of it."""
    world = PlantedWorld.build(4, 2, noise=0.1, seed=0)
    searcher = CountingSearcher()
    cfg = load(settings=["search.trials_per_round=[8, 2]", "search.candidates=100"]).search
    problem = Problem(world.space, world.objective, RidgePredictor(), searcher, cfg)
    mixtures_MK = np.random.default_rng(0).dirichlet(np.ones(4), size=8)
    rows = [world.make_row(w_K, 0, "proposal", 0) for w_K in world.space.project(mixtures_MK)]
    return problem, world.make_trials(rows)


def test_proposals_and_the_recommendation_use_one_thread_and_restore_the_number(two_threads):
    problem, trials = make_trials()
    searcher = problem.searcher
    propose(trials, 1, problem)
    recommend(SearchState.from_trials(trials, problem))
    assert set(searcher.seen) == {1}
    assert len(searcher.seen) >= 2
    assert count_threads() == 2


def test_the_smallest_change_is_found_with_one_thread(two_threads, monkeypatch):
    (problem, trials), seen = make_trials(), []

    def record(*_):
        seen.append(count_threads())
        raise SearchError("enough")

    monkeypatch.setattr(smallest_change, "require_metric", record)
    with pytest.raises(SearchError, match="enough"):
        smallest_change.find_smallest_change(
            SearchState.from_trials(trials, problem), "task0.bpb", 0.1
        )
    assert seen == [1]


def test_fits_in_threads_use_one_thread_each(two_threads):
    assert map_fits(lambda _: count_threads(), [0, 1], True) == [1, 1]
    assert count_threads() == 2

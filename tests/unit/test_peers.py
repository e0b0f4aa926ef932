"""Searchers keep one contract, and each peer does what its source says that it does."""

import dataclasses

import numpy as np
import pytest

from climb.config import load
from climb.errors import SearchError
from climb.limits import Limits
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.predictor.ridge import RidgePredictor
from climb.search import Problem, Trials, propose
from climb.search.peers import (
    ClimbSearcher,
    NaturalSearcher,
    NvidiaSearcher,
    RandomSearcher,
    RegMixSearcher,
    SingleDomainSearcher,
    UniformSearcher,
)
from climb.search.promising import PromisingSearcher
from climb.search.searcher import STAGE_ANSWER, STAGE_PROPOSE
from climb.testing.contracts import check_searcher
from climb.testing.predictors import BowlPredictor

EVERY = [
    PromisingSearcher(),
    RandomSearcher(),
    NaturalSearcher(),
    UniformSearcher(),
    SingleDomainSearcher(),
    RegMixSearcher(simulated=2_000),
    ClimbSearcher(),
    NvidiaSearcher(simulated=2_000),
]
DOMAINS = ("a", "b", "c", "d")
TOKENS_K = np.array([60.0, 25.0, 14.0, 1.0])
BEST_K = np.array([0.1, 0.5, 0.3, 0.1])
SPACE = FeasibleSet.of(DOMAINS, TOKENS_K, Limits(target_tokens=10.0, max_epochs=8.0))
OBJECTIVE = Objective.parse("mean(*.bpb):min", ("x.bpb", "y.bpb"))
CFG = load(settings=["search.trials_per_round=[12, 6, 4]", "search.candidates=400"]).search


def name_of(searcher):
    return type(searcher).__name__


def row(weights_K, round_=0, seed=0, shift=0.0):
    off = float(np.square(np.asarray(weights_K) - BEST_K).sum()) + shift
    return {
        "round": round_,
        "method": "proposal",
        "seed": seed,
        "weights": dict(zip(DOMAINS, map(float, weights_K), strict=True)),
        "metrics": {"x.bpb": off, "y.bpb": 1.0 + 2.0 * off},
    }


def told(rows):
    return Trials.from_rows(rows, DOMAINS, ("x.bpb", "y.bpb"))


NOTHING = Trials.from_rows([], DOMAINS, ())
DRAWN_MK = SPACE.sample(np.random.default_rng(7), 16, concentration=(0.3, 5.0), temperature=0.5)
KNOWN = told([row(w_K) for w_K in DRAWN_MK])


def problem(searcher, predictor=None, cfg=CFG):
    return Problem(SPACE, OBJECTIVE, predictor or BowlPredictor(), searcher, cfg)


def score(weights_MK):
    """What every predictor here would learn: the bowl's height."""
    return -np.square(weights_MK - BEST_K).sum(axis=1)


def asked(searcher, known, round_):
    """What the searcher itself says, before it is moved into the set."""
    return searcher.propose(known, round_, CFG.trials_per_round[round_], problem(searcher))


@pytest.mark.parametrize("searcher", EVERY, ids=name_of)
def test_every_searcher_keeps_the_contract(searcher):
    check_searcher(searcher)
    check_searcher(searcher, RidgePredictor())


@dataclasses.dataclass(frozen=True)
class Forgetful(RandomSearcher):
    """Draws from the state of the process."""

    def propose(self, known, round_, n, problem):
        return np.random.default_rng().dirichlet(np.ones(5), size=n)


@dataclasses.dataclass(frozen=True)
class Latest(RandomSearcher):
    """Answers with the trial that came last."""

    def answer(self, known, problem):
        return known.weights_TK[-1]


@dataclasses.dataclass(frozen=True)
class Short(RandomSearcher):
    """Proposes one mixture too few."""

    def propose(self, known, round_, n, problem):
        return super().propose(known, round_, n, problem)[1:]


@dataclasses.dataclass(frozen=True)
class Owing(RandomSearcher):
    """Takes weight that is not there."""

    def answer(self, known, problem):
        return super().answer(known, problem) - 0.5


@dataclasses.dataclass(frozen=True)
class Lost(RandomSearcher):
    """Divides by nothing."""

    def answer(self, known, problem):
        return np.full(5, np.nan)


@dataclasses.dataclass(frozen=True)
class Scribbling(RandomSearcher):
    """Writes into the trials."""

    def answer(self, known, problem):
        known.metrics_TQ[:] = 0.0
        return super().answer(known, problem)


@dataclasses.dataclass
class Thawed:
    """Can be changed after it was named."""

    def propose(self, known, round_, n, problem):
        return problem.draw(problem.random(STAGE_PROPOSE, round_), n)

    def answer(self, known, problem):
        return problem.space.uniform_K


@pytest.mark.parametrize(
    ("searcher", "promise"),
    [
        (Forgetful(), "the proposal for round 0 depends on the seed and the trials alone"),
        (Latest(), "the answer does not depend on the order of trials"),
        (Short(), r"the proposal for round 0 has shape \(8, 5\); found \(7, 5\)"),
        (Owing(), "the answer has no negative weight"),
        (Lost(), "the answer is finite"),
        (Scribbling(), "the answer leaves the trials as they are"),
        (Thawed(), "a searcher is a frozen dataclass"),
        (object(), r"a searcher has propose\(...\) and answer"),
    ],
    ids=lambda value: name_of(value) if not isinstance(value, str) else "",
)
def test_a_broken_promise_is_named(searcher, promise):
    with pytest.raises(AssertionError, match=promise):
        check_searcher(searcher)


def test_best_of_random_answers_the_best_measured_mixture_and_not_the_luckiest_run():
    good_K, lucky_K = [0.2, 0.4, 0.3, 0.1], [0.4, 0.2, 0.3, 0.1]
    rows = [row(good_K, seed=s) for s in (0, 1)]
    rows += [row(lucky_K, seed=0, shift=-1.0), row(lucky_K, seed=1, shift=1.0)]
    rows += [row([0.0, 0.0, 0.0, 1.0])]
    best = min(rows, key=lambda r: r["metrics"]["x.bpb"])
    assert list(best["weights"].values()) == lucky_K
    answer_K = RandomSearcher().answer(told(rows), problem(RandomSearcher()))
    np.testing.assert_array_equal(answer_K, good_K)


@pytest.mark.parametrize(
    "searcher",
    [RandomSearcher(), NaturalSearcher(), UniformSearcher(), RegMixSearcher()],
    ids=name_of,
)
def test_searchers_of_one_round_propose_random_draws_in_all_rounds(searcher):
    rounds = [asked(searcher, KNOWN, round_) for round_ in range(3)]
    for round_, found_MK in enumerate(rounds):
        drawn_MK = problem(searcher).draw(
            problem(searcher).random(STAGE_PROPOSE, round_), CFG.trials_per_round[round_]
        )
        np.testing.assert_array_equal(found_MK, drawn_MK)
        np.testing.assert_array_equal(found_MK, asked(searcher, NOTHING, round_))
    assert np.abs(rounds[0][:4] - rounds[2]).max() > 0.1


def test_natural_and_uniform_answer_their_proportions_whatever_the_trials_say():
    for searcher, answer_K in (
        (NaturalSearcher(), TOKENS_K / TOKENS_K.sum()),
        (UniformSearcher(), SPACE.uniform_K),
    ):
        for known in (KNOWN, told([row(BEST_K)])):
            np.testing.assert_array_equal(searcher.answer(known, problem(searcher)), answer_K)
    np.testing.assert_allclose(SPACE.uniform_K, 0.25)
    # 8 epochs of the smallest domain are 8 tokens of 100: equal weights as far as caps allow.
    tight = FeasibleSet.of(DOMAINS, TOKENS_K, Limits(target_tokens=100.0, max_epochs=8.0))
    there = Problem(tight, OBJECTIVE, BowlPredictor(), UniformSearcher(), CFG)
    np.testing.assert_allclose(UniformSearcher().answer(KNOWN, there)[3], 0.08)


def test_single_domain_proposes_one_domain_each_as_far_as_caps_allow_and_then_draws():
    searcher = SingleDomainSearcher()
    first_MK = asked(searcher, NOTHING, 0)
    alone_KK, rest_MK = first_MK[:4], first_MK[4:]
    assert alone_KK.argmax(axis=1).tolist() == [0, 1, 2, 3]  # the largest first
    np.testing.assert_allclose(alone_KK.max(axis=1), [1.0, 1.0, 1.0, 0.8])
    np.testing.assert_array_equal(
        rest_MK, problem(searcher).draw(problem(searcher).random(STAGE_PROPOSE, 0), 8)
    )
    few_MK = searcher.propose(NOTHING, 0, 2, problem(searcher))
    np.testing.assert_array_equal(few_MK, alone_KK[:2])
    np.testing.assert_array_equal(asked(searcher, KNOWN, 1), asked(RandomSearcher(), KNOWN, 1))


def test_single_domain_answers_the_best_domain_where_one_alone_is_best():
    known = told([row(w_K) for w_K in asked(SingleDomainSearcher(), NOTHING, 0)[:4]])
    answer_K = SingleDomainSearcher().answer(known, problem(SingleDomainSearcher()))
    np.testing.assert_allclose(answer_K, [0.0, 1.0, 0.0, 0.0])  # b lies nearest to the best


def test_regmix_averages_the_best_simulated_mixtures():
    def answer(averaged):
        searcher = RegMixSearcher(simulated=4_000, averaged=averaged)
        return searcher.answer(KNOWN, problem(searcher))

    simulated_NK = problem(RegMixSearcher()).random(STAGE_ANSWER).dirichlet(SPACE.natural_K, 4_000)
    order = np.argsort(-score(simulated_NK))
    np.testing.assert_allclose(answer(1), simulated_NK[order[0]], atol=1e-9)
    np.testing.assert_allclose(answer(50), simulated_NK[order[:50]].mean(axis=0), atol=1e-9)
    # Draws around the token shares: all of them average to those.
    np.testing.assert_allclose(answer(4_000), SPACE.natural_K, atol=0.02)


@pytest.mark.parametrize(
    "searcher", [ClimbSearcher(), NvidiaSearcher(simulated=3_000)], ids=name_of
)
def test_later_rounds_of_climb_come_from_the_top_of_the_pool_and_not_from_its_very_top(searcher):
    for round_, n_top in ((1, 128), (2, 128)):
        pool_NK = searcher.pool(problem(searcher), problem(searcher).random(STAGE_PROPOSE, round_))
        rank_N = np.argsort(np.argsort(-score(pool_NK)))
        found_MK = asked(searcher, KNOWN, round_)
        places = [int(np.flatnonzero((pool_NK == w_K).all(axis=1))[0]) for w_K in found_MK]
        assert len(set(places)) == CFG.trials_per_round[round_]
        ranks = rank_N[places]
        assert ranks.max() < n_top
        assert ranks.max() >= len(places)  # picked at random among them


def test_a_pool_smaller_than_a_round_is_refused():
    small = problem(ClimbSearcher(), cfg=CFG.model_copy(update={"candidates": 5}))
    with pytest.raises(SearchError, match=r"search\.candidates 5 is less than the 8 mixtures"):
        ClimbSearcher().propose(KNOWN, 1, 8, small)


def test_climb_picks_among_m_squared_once_that_is_more_than_128():
    searcher = ClimbSearcher()
    pool_NK = searcher.pool(problem(searcher), problem(searcher).random(STAGE_PROPOSE, 1))
    rank_N = np.argsort(np.argsort(-score(pool_NK)))
    found_MK = searcher.propose(KNOWN, 1, 18, problem(searcher))
    ranks = [rank_N[(pool_NK == w_K).all(axis=1)][0] for w_K in found_MK]
    assert 128 <= max(ranks) < 18**2


@pytest.mark.parametrize(
    "searcher", [ClimbSearcher(), NvidiaSearcher(simulated=3_000)], ids=name_of
)
def test_climb_answers_the_best_of_the_pool(searcher):
    pool_NK = searcher.pool(problem(searcher), problem(searcher).random(STAGE_ANSWER))
    answer_K = searcher.answer(KNOWN, problem(searcher))
    np.testing.assert_array_equal(answer_K, pool_NK[score(pool_NK).argmax()])


def test_climb_draws_its_first_round_and_its_pool_from_the_one_sampler():
    searcher = ClimbSearcher()
    random = problem(searcher).random(STAGE_PROPOSE, 0)
    np.testing.assert_array_equal(asked(searcher, NOTHING, 0), problem(searcher).draw(random, 12))
    assert SPACE.contains(searcher.pool(problem(searcher), np.random.default_rng(0))).all()


def test_nvidias_first_round_keeps_the_cap_of_fifteen_times_and_its_pool_does_not():
    searcher = NvidiaSearcher(simulated=3_000)
    cap_K = 15.0 * SPACE.natural_K  # 0.15 for the smallest domain
    first_MK = asked(searcher, NOTHING, 0)
    # What is cut off under 2e-4 goes to the others, so a weight may pass its cap by so little.
    assert (first_MK <= cap_K * (1.0 + 4 * searcher.minimum)).all()
    np.testing.assert_allclose(first_MK.sum(axis=1), 1.0)
    assert ((first_MK == 0.0) | (first_MK >= searcher.minimum)).all()
    pool_NK = searcher.pool(problem(searcher), np.random.default_rng(0))
    assert (pool_NK > cap_K).any(axis=1).mean() > 0.005
    assert np.median(pool_NK.max(axis=1)) > 0.8  # nearly one-hot


def test_what_nvidias_recipe_wants_beyond_the_set_is_moved_inside():
    searcher = NvidiaSearcher(simulated=3_000)
    tight = dataclasses.replace(SPACE, caps_K=np.minimum(15.0 * SPACE.natural_K, 0.7))
    there = dataclasses.replace(problem(searcher), space=tight)
    for round_ in range(3):
        assert tight.contains(propose(KNOWN if round_ else told([]), round_, there)).all()


@dataclasses.dataclass(frozen=True)
class Counting(BowlPredictor):
    """Remembers which values it was fitted to."""

    fitted: list = dataclasses.field(default_factory=list)

    def fit(self, weights_TK, values_T, noise_T):
        self.fitted.append(values_T)
        return super().fit(weights_TK, values_T, noise_T)


@pytest.mark.parametrize(
    "searcher", [RegMixSearcher(simulated=200), ClimbSearcher(), NvidiaSearcher(simulated=200)],
    ids=name_of,
)  # fmt: skip
def test_published_searchers_learn_the_score_itself_and_no_metric(searcher):
    counting = Counting()
    searcher.answer(KNOWN, problem(searcher, counting))
    (values_T,) = counting.fitted
    np.testing.assert_allclose(np.sort(values_T), np.sort(OBJECTIVE.score(KNOWN.metrics_TQ)))

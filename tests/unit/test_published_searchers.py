"""Every searcher keeps the contract, and each published method does what its source describes."""

import dataclasses

import numpy as np
import pytest

from climb.config import load
from climb.errors import SearchError
from climb.mixture import Constraints, FeasibleSet
from climb.objective import Objective
from climb.predictor.ridge import RidgePredictor
from climb.search import Problem, SearchState, Trials, propose
from climb.search.problem import STAGE_PROPOSE, STAGE_RECOMMEND
from climb.search.searchers.published import (
    ClimbSearcher,
    NaturalSearcher,
    NvidiaSearcher,
    OlmixSearcher,
    RandomSearcher,
    RegMixSearcher,
    SingleDomainSearcher,
    UniformSearcher,
)
from climb.search.searchers.ucb import UCBSearcher
from climb.testing.contracts import check_searcher
from climb.testing.predictors import BowlPredictor

SEARCHERS = [
    UCBSearcher(),
    RandomSearcher(),
    NaturalSearcher(),
    UniformSearcher(),
    SingleDomainSearcher(),
    RegMixSearcher(simulated=2_000),
    ClimbSearcher(),
    NvidiaSearcher(simulated=2_000),
    OlmixSearcher(),
]
DOMAINS = ("a", "b", "c", "d")
TOKENS_K = np.array([60.0, 25.0, 14.0, 1.0])
BEST_K = np.array([0.1, 0.5, 0.3, 0.1])
SPACE = FeasibleSet.from_constraints(
    DOMAINS, TOKENS_K, Constraints(target_tokens=10.0, max_epochs=8.0)
)
METRICS = ("x.bpb", "y.bpb")
OBJECTIVE = Objective.parse("mean(*.bpb):min", METRICS)
CFG = load(settings=["search.trials_per_round=[12, 6, 4]", "search.candidates=400"]).search


def name_of(searcher):
    return type(searcher).__name__


def make_row(weights_K, seed=0, shift=0.0):
    loss = float(np.square(np.asarray(weights_K) - BEST_K).sum()) + shift
    return {
        "round": 0,
        "method": "proposal",
        "seed": seed,
        "weights": dict(zip(DOMAINS, map(float, weights_K), strict=True)),
        "metrics": {"x.bpb": loss, "y.bpb": 1.0 + 2.0 * loss},
    }


def make_trials(rows):
    return Trials.from_rows(rows, DOMAINS, METRICS)


NO_TRIALS = Trials.from_rows([], DOMAINS, ())
DRAWN_MK = SPACE.sample(np.random.default_rng(7), 16, concentration=(0.3, 5.0), temperature=0.5)
TRIALS = make_trials([make_row(weights_K) for weights_K in DRAWN_MK])


def build_problem(searcher, predictor=None, cfg=CFG, space=SPACE):
    return Problem(space, OBJECTIVE, predictor or BowlPredictor(), searcher, cfg)


def compute_scores(weights_MK):
    """Compute the score of the bowl, up to a linear map."""
    return -np.square(weights_MK - BEST_K).sum(axis=1)


def ask_proposals(searcher, trials, round_, n=None, cfg=CFG):
    """Return what the searcher itself proposes, before the projection into the set."""
    state = SearchState.from_trials(trials, build_problem(searcher, cfg=cfg))
    return searcher.propose(state, round_, n or cfg.trials_per_round[round_])


def ask_recommendation(searcher, trials, **settings):
    """Return what the searcher itself recommends, before the projection into the set."""
    state = SearchState.from_trials(trials, build_problem(searcher, **settings))
    return searcher.recommend(state)


@pytest.mark.parametrize("searcher", SEARCHERS, ids=name_of)
def test_every_searcher_keeps_the_contract(searcher):
    check_searcher(searcher)
    check_searcher(searcher, RidgePredictor())


@dataclasses.dataclass(frozen=True)
class UnseededSearcher(RandomSearcher):
    """Draws from the entropy of the operating system."""

    def propose(self, state, round_, n):
        return np.random.default_rng().dirichlet(np.ones(5), size=n)


@dataclasses.dataclass(frozen=True)
class LastTrialSearcher(RandomSearcher):
    """Recommends the last trial."""

    def recommend(self, state):
        return state.trials.weights_TK[-1]


@dataclasses.dataclass(frozen=True)
class WrongShapeSearcher(RandomSearcher):
    """Proposes one mixture too few."""

    def propose(self, state, round_, n):
        return super().propose(state, round_, n)[1:]


@dataclasses.dataclass(frozen=True)
class NegativeSearcher(RandomSearcher):
    """Recommends negative weights."""

    def recommend(self, state):
        return super().recommend(state) - 0.5


@dataclasses.dataclass(frozen=True)
class NaNSearcher(RandomSearcher):
    """Recommends NaN."""

    def recommend(self, state):
        return np.full(5, np.nan)


@dataclasses.dataclass(frozen=True)
class ZeroSearcher(RandomSearcher):
    """Recommends a weight of 0 for every domain."""

    def recommend(self, state):
        return np.zeros(5)


@dataclasses.dataclass(frozen=True)
class WritingSearcher(RandomSearcher):
    """Changes the trials."""

    def recommend(self, state):
        state.trials.metrics_TQ[:] = 0.0
        return super().recommend(state)


@dataclasses.dataclass
class MutableSearcher:
    """Is not frozen."""

    def propose(self, state, round_, n):
        return state.problem.sample(state.problem.random(STAGE_PROPOSE, round_), n)

    def recommend(self, state):
        return state.problem.space.uniform_K


@pytest.mark.parametrize(
    ("searcher", "rule"),
    [
        (
            UnseededSearcher(),
            "the proposal for round 0 must depend on the seed and the trials alone",
        ),
        (LastTrialSearcher(), "the recommendation must not depend on the order of trials"),
        (
            WrongShapeSearcher(),
            r"the proposal for round 0 must have shape \(8, 5\); found \(7, 5\)",
        ),
        (NegativeSearcher(), "the recommendation must not have a negative weight"),
        (NaNSearcher(), "the recommendation must be finite"),
        (ZeroSearcher(), "the recommendation must not have a mixture of zeros"),
        (WritingSearcher(), "the recommendation must not change the trials"),
        (MutableSearcher(), "a searcher must be a frozen dataclass"),
        (object(), r"a searcher must have methods propose\(state, round_, n\) and recommend"),
    ],
    ids=lambda value: name_of(value) if not isinstance(value, str) else "",
)
def test_a_broken_rule_of_the_contract_is_reported(searcher, rule):
    with pytest.raises(AssertionError, match=rule):
        check_searcher(searcher)


def test_random_search_recommends_the_best_mean_and_not_the_best_single_run():
    good_K, lucky_K = [0.2, 0.4, 0.3, 0.1], [0.4, 0.2, 0.3, 0.1]
    rows = [make_row(good_K, seed=s) for s in (0, 1)]
    rows += [make_row(lucky_K, seed=0, shift=-1.0), make_row(lucky_K, seed=1, shift=1.0)]
    rows += [make_row([0.0, 0.0, 0.0, 1.0])]
    best = min(rows, key=lambda row: row["metrics"]["x.bpb"])
    assert list(best["weights"].values()) == lucky_K
    recommended_K = ask_recommendation(RandomSearcher(), make_trials(rows))
    np.testing.assert_array_equal(recommended_K, good_K)


def test_random_search_recommends_no_run_of_other_domains_while_it_has_its_own():
    trials = make_trials([make_row([0.2, 0.4, 0.3, 0.1]), make_row([0.0, 0.0, 0.0, 1.0])])
    reused = dataclasses.replace(
        make_trials([make_row([0.4, 0.2, 0.3, 0.1], shift=-9.0)]), tv_distance_T=np.array([0.2])
    )
    both = trials.concatenate([reused])
    recommended_K = ask_recommendation(RandomSearcher(), both)
    np.testing.assert_array_equal(recommended_K, [0.2, 0.4, 0.3, 0.1])
    recommended_K = ask_recommendation(RandomSearcher(), reused)
    np.testing.assert_array_equal(recommended_K, [0.4, 0.2, 0.3, 0.1])


@pytest.mark.parametrize(
    "searcher",
    [RandomSearcher(), NaturalSearcher(), UniformSearcher(), RegMixSearcher()],
    ids=name_of,
)
def test_methods_without_rounds_propose_random_draws_in_every_round(searcher):
    rounds = [ask_proposals(searcher, TRIALS, round_) for round_ in range(3)]
    problem = build_problem(searcher)
    for round_, proposed_MK in enumerate(rounds):
        drawn_MK = problem.sample(
            problem.random(STAGE_PROPOSE, round_), CFG.trials_per_round[round_]
        )
        np.testing.assert_array_equal(proposed_MK, drawn_MK)
        np.testing.assert_array_equal(proposed_MK, ask_proposals(searcher, NO_TRIALS, round_))
    assert np.abs(rounds[0][:4] - rounds[2]).max() > 0.1


def test_random_draws_that_were_trained_are_not_proposed_again():
    first_MK = ask_proposals(RandomSearcher(), TRIALS, 1)
    trained = [make_row(weights_K) for weights_K in (*DRAWN_MK, *first_MK)]
    second_MK = ask_proposals(RandomSearcher(), make_trials(trained), 1)
    assert np.abs(second_MK[:, None] - first_MK).max(axis=2).min() > 1e-3
    some_MK = ask_proposals(RandomSearcher(), make_trials(trained[:-2]), 1)
    np.testing.assert_array_equal(some_MK[:2], first_MK[-2:])


def test_a_feasible_set_of_one_mixture_has_no_other_proposals():
    narrow = FeasibleSet.from_constraints(
        DOMAINS, TOKENS_K, Constraints(target_tokens=100.0, max_epochs=1.0)
    )
    trials = make_trials([make_row(narrow.natural_K)])
    state = SearchState.from_trials(trials, build_problem(RandomSearcher(), space=narrow))
    np.testing.assert_allclose(RandomSearcher().propose(state, 1, 2), [narrow.natural_K] * 2)


def test_natural_and_uniform_recommend_their_mixture_for_any_trials():
    for searcher, expected_K in (
        (NaturalSearcher(), TOKENS_K / TOKENS_K.sum()),
        (UniformSearcher(), SPACE.uniform_K),
    ):
        for trials in (TRIALS, make_trials([make_row(BEST_K)])):
            np.testing.assert_array_equal(ask_recommendation(searcher, trials), expected_K)
    np.testing.assert_allclose(SPACE.uniform_K, 0.25)
    # 8 epochs of the smallest domain are 8 of 100 tokens: its cap is 0.08, below equal weights.
    tight = FeasibleSet.from_constraints(
        DOMAINS, TOKENS_K, Constraints(target_tokens=100.0, max_epochs=8.0)
    )
    recommended_K = ask_recommendation(UniformSearcher(), TRIALS, space=tight)
    np.testing.assert_allclose(recommended_K[3], 0.08)


def test_single_domain_proposes_one_domain_per_trial_up_to_its_cap_and_then_draws():
    searcher = SingleDomainSearcher()
    first_MK = ask_proposals(searcher, NO_TRIALS, 0)
    single_KK, rest_MK = first_MK[:4], first_MK[4:]
    assert single_KK.argmax(axis=1).tolist() == [0, 1, 2, 3]  # the largest first
    np.testing.assert_allclose(single_KK.max(axis=1), [1.0, 1.0, 1.0, 0.8])
    problem = build_problem(searcher)
    np.testing.assert_array_equal(rest_MK, problem.sample(problem.random(STAGE_PROPOSE, 0), 8))
    few_MK = ask_proposals(searcher, NO_TRIALS, 0, n=2)
    np.testing.assert_array_equal(few_MK, single_KK[:2])
    np.testing.assert_array_equal(
        ask_proposals(searcher, TRIALS, 1), ask_proposals(RandomSearcher(), TRIALS, 1)
    )


def test_single_domain_recommends_the_best_domain():
    searcher = SingleDomainSearcher()
    single_KK = ask_proposals(searcher, NO_TRIALS, 0)[:4]
    other = make_row(BEST_K)  # a baseline, which is better than every domain
    trials = make_trials([*(make_row(weights_K) for weights_K in single_KK), other])
    recommended_K = ask_recommendation(searcher, trials)
    np.testing.assert_allclose(recommended_K, [0.0, 1.0, 0.0, 0.0])  # b is nearest to BEST_K


def test_regmix_recommends_the_mean_of_the_best_simulated_mixtures():
    def recommend(averaged):
        return ask_recommendation(RegMixSearcher(simulated=4_000, averaged=averaged), TRIALS)

    random = build_problem(RegMixSearcher()).random(STAGE_RECOMMEND)
    simulated_NK = random.dirichlet(SPACE.natural_K, 4_000)
    order = np.argsort(-compute_scores(simulated_NK))
    np.testing.assert_allclose(recommend(1), simulated_NK[order[0]], atol=1e-9)
    np.testing.assert_allclose(recommend(50), simulated_NK[order[:50]].mean(axis=0), atol=1e-9)
    # The mean of all draws is the token shares, which are the parameters of the distribution.
    np.testing.assert_allclose(recommend(4_000), SPACE.natural_K, atol=0.02)


@pytest.mark.parametrize(
    "searcher", [ClimbSearcher(), NvidiaSearcher(simulated=3_000)], ids=name_of
)
def test_later_rounds_of_climb_are_drawn_at_random_from_the_best_of_the_pool(searcher):
    problem = build_problem(searcher)
    for round_, n_best in ((1, 128), (2, 128)):
        pool_NK = searcher.sample_pool(problem, problem.random(STAGE_PROPOSE, round_))
        rank_N = np.argsort(np.argsort(-compute_scores(pool_NK)))
        proposed_MK = ask_proposals(searcher, TRIALS, round_)
        rows = [int(np.flatnonzero((pool_NK == w_K).all(axis=1))[0]) for w_K in proposed_MK]
        assert len(set(rows)) == CFG.trials_per_round[round_]
        ranks = rank_N[rows]
        assert ranks.max() < n_best
        assert ranks.max() >= len(rows)  # at random, and not the very best


@pytest.mark.parametrize(
    ("searcher", "setting"),
    [(ClimbSearcher(), "search.candidates"), (NvidiaSearcher(simulated=5), "searcher.simulated")],
)
def test_a_pool_smaller_than_a_round_is_refused_with_the_setting_of_its_size(searcher, setting):
    small = CFG.model_copy(update={"candidates": 5})
    message = f"the pool has 5 mixtures, but a round needs 8; raise .*{setting}"
    with pytest.raises(SearchError, match=message):
        ask_proposals(searcher, TRIALS, 1, n=8, cfg=small)


def test_climb_draws_from_the_best_m_squared_if_that_is_more_than_128():
    searcher = ClimbSearcher()
    problem = build_problem(searcher)
    pool_NK = searcher.sample_pool(problem, problem.random(STAGE_PROPOSE, 1))
    rank_N = np.argsort(np.argsort(-compute_scores(pool_NK)))
    proposed_MK = ask_proposals(searcher, TRIALS, 1, n=18)
    ranks = [rank_N[(pool_NK == w_K).all(axis=1)][0] for w_K in proposed_MK]
    assert 128 <= max(ranks) < 18**2


@pytest.mark.parametrize(
    "searcher", [ClimbSearcher(), NvidiaSearcher(simulated=3_000)], ids=name_of
)
def test_climb_recommends_the_best_of_the_pool(searcher):
    problem = build_problem(searcher)
    pool_NK = searcher.sample_pool(problem, problem.random(STAGE_RECOMMEND))
    recommended_K = ask_recommendation(searcher, TRIALS)
    np.testing.assert_array_equal(recommended_K, pool_NK[compute_scores(pool_NK).argmax()])


def test_climb_draws_its_first_round_and_its_pool_from_the_same_sampler():
    searcher = ClimbSearcher()
    problem = build_problem(searcher)
    drawn_MK = problem.sample(problem.random(STAGE_PROPOSE, 0), 12)
    np.testing.assert_array_equal(ask_proposals(searcher, NO_TRIALS, 0), drawn_MK)
    assert SPACE.contains(searcher.sample_pool(problem, np.random.default_rng(0))).all()


def test_nvidias_first_round_keeps_the_cap_of_fifteen_times_and_its_pool_does_not():
    searcher = NvidiaSearcher(simulated=3_000)
    cap_K = 15.0 * SPACE.natural_K  # 0.15 for the smallest domain
    first_MK = ask_proposals(searcher, NO_TRIALS, 0)
    # Weights below 2e-4 become 0 and the others are scaled, so a weight may pass its cap slightly.
    assert (first_MK <= cap_K * (1.0 + 4 * searcher.minimum)).all()
    np.testing.assert_allclose(first_MK.sum(axis=1), 1.0)
    assert ((first_MK == 0.0) | (first_MK >= searcher.minimum)).all()
    pool_NK = searcher.sample_pool(build_problem(searcher), np.random.default_rng(0))
    assert (pool_NK > cap_K).any(axis=1).mean() > 0.005
    assert np.median(pool_NK.max(axis=1)) > 0.8  # nearly one-hot


def test_infeasible_proposals_of_nvidias_recipe_are_projected_into_the_set():
    searcher = NvidiaSearcher(simulated=3_000)
    upper_K = np.minimum(15.0 * SPACE.natural_K, 0.7)
    bounds = dataclasses.replace(SPACE.bounds, upper_K=upper_K)
    tight = dataclasses.replace(SPACE, bounds=bounds)
    problem = build_problem(searcher, space=tight)
    for round_ in range(3):
        trials = TRIALS if round_ else make_trials([])
        assert tight.contains(propose(trials, round_, problem)).all()


@dataclasses.dataclass(frozen=True)
class RecordingPredictor(BowlPredictor):
    """Records the values that it is fitted to."""

    fitted: list = dataclasses.field(default_factory=list)

    def fit(self, weights_TK, values_T, noise_T):
        self.fitted.append(values_T)
        return super().fit(weights_TK, values_T, noise_T)


@pytest.mark.parametrize(
    "searcher",
    [RegMixSearcher(simulated=200), ClimbSearcher(), NvidiaSearcher(simulated=200)],
    ids=name_of,
)
def test_published_methods_fit_the_score_itself_and_no_metric(searcher):
    predictor = RecordingPredictor()
    ask_recommendation(searcher, TRIALS, predictor=predictor)
    (values_T,) = predictor.fitted
    np.testing.assert_allclose(np.sort(values_T), np.sort(OBJECTIVE.score(TRIALS.metrics_TQ)))

"""The search: trials, rounds, the state of a search, calibration and the recommendation."""

import dataclasses
import itertools

import numpy as np
import pytest

from climb.config import load
from climb.errors import ComponentError, ConfigError, SearchError
from climb.mixture import Constraints, FeasibleSet
from climb.objective import Objective
from climb.predictor import Predict
from climb.search import Problem, SearchState, Trials, propose, recommend
from climb.search.acquisition import select_batch, select_distant
from climb.search.calibration import Calibration
from climb.search.knowledge_gradient import estimate_further_round
from climb.search.pareto import find_pareto_front
from climb.search.pattern_search import pattern_search
from climb.search.rounds import project_proposals, sample_first_round, sample_measured
from climb.search.searchers.ucb import UCBSearcher
from climb.search.surrogate import Surrogate
from climb.testing.predictors import BowlPredictor

DOMAINS = ("a", "b", "c", "d")
BEST_K = np.array([0.1, 0.5, 0.3, 0.1])
SPACE = FeasibleSet.from_constraints(
    DOMAINS, np.ones(4), Constraints(target_tokens=4.0, max_epochs=2.4, min_weight=1e-3)
)
METRICS = ("x.bpb", "y.bpb")
OBJECTIVE = Objective.parse("0.5*x.bpb:min + 0.5*y.bpb:min", METRICS)
CFG = load(
    settings=[
        "search.trials_per_round=[12,8,6]",
        "search.candidates=300",
        "search.seed=1",
    ]
).search


def compute_losses(weights_K):
    """Compute two bowls whose mean has its minimum at BEST_K."""
    distance = np.square(weights_K - BEST_K).sum()
    return distance + 0.3 * weights_K[0], distance - 0.3 * weights_K[0]


def make_row(weights_K, round_=0, method="proposal", seed=0, noise=0.0):
    x, y = compute_losses(np.asarray(weights_K))
    random = np.random.default_rng([seed, *(int(1e6 * w) for w in weights_K)])
    noise_2 = noise * random.normal(size=2)
    return {
        "round": round_,
        "method": method,
        "seed": seed,
        "weights": dict(zip(DOMAINS, map(float, weights_K), strict=True)),
        "metrics": {"x.bpb": x + noise_2[0], "y.bpb": y + noise_2[1], "other": 1.0},
    }


def make_trials(rows):
    return Trials.from_rows(rows, DOMAINS, METRICS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstantPredictor:
    """Predicts one value for every mixture."""

    value: float = float("nan")

    def fit(self, weights_TK, values_T, noise_T) -> Predict:
        return lambda w: (np.full(len(w), self.value), np.zeros(len(w)))


def build_problem(space=SPACE, predictor=None, cfg=CFG, searcher=None):
    searcher = searcher or UCBSearcher(shortlist=60)
    return Problem(space, OBJECTIVE, predictor or BowlPredictor(), searcher, cfg)


def propose_round(rows, round_):
    return propose(make_trials(rows), round_, build_problem())


def recommend_from(rows, problem):
    return recommend(SearchState.from_trials(make_trials(rows), problem))


def make_baseline_rows(problem, n_replicates, noise=0.0):
    return [
        make_row(weights_K, 0, baseline.name, seed, noise)
        for baseline, weights_K in zip(problem.baselines, problem.make_baselines(), strict=True)
        for seed in range(n_replicates)
    ]


@pytest.fixture(scope="module")
def rows():
    """Rows of a whole search with observation noise 0.01."""
    rows = make_baseline_rows(build_problem(), 3, noise=0.01)
    for round_ in range(3):
        rows += [make_row(w, round_, noise=0.01) for w in propose_round(rows, round_)]
    return tuple(rows)


@pytest.fixture(scope="module")
def recommendation(rows):
    return recommend_from(rows, build_problem())


def test_the_order_of_rows_does_not_change_the_trials(rows):
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    one, other = make_trials(rows), make_trials(shuffled)
    np.testing.assert_array_equal(one.weights_TK, other.weights_TK)
    np.testing.assert_array_equal(one.metrics_TQ, other.metrics_TQ)
    assert one.methods_T == other.methods_T


def test_an_invalid_row_is_reported_with_its_round_method_and_seed():
    bad = make_row(BEST_K, seed=7) | {"metrics": {"x.bpb": 1.0, "y.bpb": float("nan")}}
    with pytest.raises(
        SearchError, match=r"round 0, method proposal, seed 7: metric 'y.bpb' is nan"
    ):
        make_trials([bad])
    with pytest.raises(SearchError, match=r"metric 'y.bpb' is None.*metrics found: x.bpb"):
        make_trials([bad | {"metrics": {"x.bpb": 1.0}}])
    with pytest.raises(
        SearchError, match=r"seed 7: the mixture gives weight to unknown domains \['z'\]"
    ):
        make_trials([bad | {"weights": {"z": 1.0}}])


def test_replicates_are_averaged_and_their_noise_is_pooled():
    rows = [make_row(BEST_K, seed=s) for s in range(2)]
    rows += [make_row([1, 0, 0, 0], seed=s) for s in range(2)]
    for i, shift in enumerate((0.1, -0.1, 0.3, -0.3)):
        rows[i]["metrics"]["x.bpb"] += shift
    replicates = make_trials([*rows, make_row([0, 1, 0, 0])]).group_replicates()
    assert sorted(replicates.counts_D.tolist()) == [1, 2, 2]
    np.testing.assert_allclose(replicates.noise_Q, [np.sqrt((0.02 + 0.18) / 2), 0.0], atol=1e-12)


def test_without_replicates_the_noise_is_nan():
    trials = make_trials([make_row(BEST_K), make_row([1, 0, 0, 0])])
    assert np.isnan(trials.group_replicates().noise_Q).all()


def test_trials_can_be_empty():
    assert len(make_trials([])) == 0
    assert make_trials([]).group_replicates().means_DQ.shape == (0, 2)


def test_the_first_round_fills_the_set_better_than_plain_draws():
    selected_MK = sample_first_round(12, build_problem())
    assert SPACE.contains(selected_MK).all()
    plain_MK = SPACE.sample(np.random.default_rng(0), 12, concentration=(0.1, 5), temperature=0.5)

    def compute_min_distance(weights_MK):
        roots_MK = np.sqrt(weights_MK)
        distance_MM = np.linalg.norm(roots_MK[:, None] - roots_MK[None], axis=2)
        return distance_MM[~np.eye(len(weights_MK), dtype=bool)].min()

    assert compute_min_distance(selected_MK) > 3.0 * compute_min_distance(plain_MK)


def test_later_rounds_approach_the_best_mixture():
    rows, distance = [], []
    for round_ in range(3):
        weights_MK = propose_round(rows, round_)
        assert SPACE.contains(weights_MK).all()
        assert len(np.unique(np.round(weights_MK, 6), axis=0)) == CFG.trials_per_round[round_]
        rows += [make_row(w, round_) for w in weights_MK]
        distance.append(np.abs(weights_MK - BEST_K).sum(axis=1).min())
    assert distance[1] < 0.05
    assert distance[1] < distance[0] / 2


def test_an_interrupted_round_proposes_the_same_mixtures_again():
    rows = [make_row(w) for w in propose_round([], 0)]
    planned_MK = propose_round(rows, 1)
    interrupted = rows + [make_row(w, 1) for w in planned_MK[:3]]
    np.testing.assert_array_equal(propose_round(interrupted, 1), planned_MK)
    measured = [*rows, make_row(BEST_K, 0, method="recommended")]
    np.testing.assert_array_equal(propose_round(measured, 1), planned_MK)


def test_permuting_domains_permutes_proposals_and_recommendation(rows, recommendation):
    order = [2, 0, 3, 1]
    problem = build_problem(SPACE.reorder_domains(order))
    trials = Trials.from_rows(rows, problem.space.domains, METRICS)
    for round_ in (0, 1):
        permuted_MK = propose(trials, round_, problem)
        np.testing.assert_array_equal(permuted_MK, propose_round(rows, round_)[:, order])
    permuted = recommend(SearchState.from_trials(trials, problem))
    assert permuted.domains == problem.space.domains
    np.testing.assert_array_equal(permuted.weights_K, recommendation.weights_K[order])
    assert permuted.gain == recommendation.gain
    for one, other in zip(permuted.baselines, recommendation.baselines, strict=True):
        np.testing.assert_array_equal(one.weights_K, other.weights_K[order])
        assert (one.name, one.gain) == (other.name, other.gain)


def test_the_first_round_keeps_away_from_existing_runs():
    existing_MK = sample_first_round(12, build_problem())
    again_MK = sample_first_round(12, build_problem(), existing_MK)

    def compute_min_distance(weights_MK):
        differences_MMK = np.sqrt(weights_MK)[:, None] - np.sqrt(existing_MK)[None]
        return np.linalg.norm(differences_MMK, axis=2).min()

    assert compute_min_distance(existing_MK) == 0.0
    assert compute_min_distance(again_MK) > 0.1
    # Runs reused from other domains have round -1, and the searcher sees them.
    reused = make_trials([make_row(w, round_=-1) for w in existing_MK])
    np.testing.assert_allclose(propose(reused, 0, build_problem()), again_MK)


def test_equal_seeds_give_equal_bytes_and_other_seeds_give_other_mixtures():
    assert propose_round([], 0).tobytes() == propose_round([], 0).tobytes()
    other = CFG.model_copy(update={"seed": 2})
    other_MK = sample_first_round(12, build_problem(cfg=other))
    assert not np.array_equal(other_MK, propose_round([], 0))


def test_a_round_that_is_not_configured_is_refused():
    with pytest.raises(SearchError, match=r"round 3 does not exist: .* has rounds 0 to 2"):
        propose_round([], 3)


@pytest.mark.parametrize("wrong", [{"near_ties": -1.0}, {"shortlist": 0}, {"exploration": -0.1}])
def test_invalid_settings_of_a_searcher_are_refused(wrong):
    with pytest.raises(ConfigError, match="must be at least 0, shortlist at least 1"):
        UCBSearcher(**wrong)


def test_too_few_mixtures_for_a_fit_are_refused():
    rows = [make_row(w) for w in np.eye(4)[:3]] * 2
    with pytest.raises(SearchError, match="3 distinct mixtures have finished trials"):
        propose_round(rows, 1)


def test_a_set_of_one_mixture_cannot_fill_a_round():
    fixed = FeasibleSet.from_constraints(
        DOMAINS, [1, 2, 3, 4], Constraints(target_tokens=10.0, max_epochs=1.0)
    )
    lower = r"only 0 mixtures .* but 12 are needed .* lower "
    with pytest.raises(SearchError, match=rf"{lower}search\.trials_per_round"):
        sample_first_round(12, build_problem(fixed))
    with pytest.raises(SearchError, match=rf"{lower}`mixtures` of the fidelity"):
        sample_measured(12, build_problem(fixed))
    rows = [make_row(w) for w in propose_round([], 0)]
    with pytest.raises(SearchError, match=r"mixtures were found .* but 8 are needed "):
        propose(make_trials(rows), 1, build_problem(fixed))


@pytest.mark.parametrize(
    ("proposed", "message"),
    [
        (np.full((1, 4), 0.25), r"an array of shape \(1, 4\); it must have shape \(2, 4\)"),
        ([[0.25] * 4, [0.5, -0.1, 0.6, 0.0]], "smallest weight -0.1 and largest weight 0.6"),
        ([[0.25] * 4, [0.5, np.nan, 0.5, 0.0]], "smallest weight nan and largest weight nan"),
        ([[0.25] * 4, [0.5, np.inf, 0.5, 0.0]], "smallest weight 0 and largest weight inf"),
        ([[0.0] * 4, [0.25] * 4], "smallest weight 0 and largest weight 0; weights must be"),
    ],
    ids=["shape", "negative", "nan", "infinite", "zeros"],
)
def test_a_wrong_proposal_is_refused_with_what_is_wrong_in_it(proposed, message):
    with pytest.raises(ComponentError, match=message):
        project_proposals(proposed, (2, 4), build_problem())


@pytest.mark.parametrize(
    "predictor", [ConstantPredictor(), ConstantPredictor(value=np.inf)], ids=["nan", "inf"]
)
def test_predictions_that_are_not_finite_are_refused(predictor):
    trials = make_trials([make_row(w) for w in propose_round([], 0)])
    surrogate = Surrogate.fit(trials, OBJECTIVE, predictor)
    with pytest.raises(
        ComponentError, match=r"predictor's mean has shape \(2,\) and 2 values that are not"
    ):
        surrogate.predict_score(np.stack([BEST_K, BEST_K]))


def test_a_batch_has_no_two_candidates_near_each_other():
    pool_NK = np.array([[0.5, 0.5, 0, 0], [0.5001, 0.4999, 0, 0], [0, 0, 0.5, 0.5]])
    mean_N, std_N = np.array([1.0, 0.999, 0.9]), np.full(3, 0.2)
    assert select_batch(pool_NK, mean_N, std_N, np.eye(4)[:1], 2).tolist() == [0, 2]
    assert select_batch(pool_NK, mean_N, std_N, pool_NK, 2).tolist() == []


@pytest.mark.parametrize("shortlist", [8, 12])
def test_a_short_list_of_candidates_near_each_other_still_gives_a_whole_round(shortlist):
    searcher = UCBSearcher(shortlist=shortlist)
    for seed in range(5):
        cfg = CFG.model_copy(update={"seed": seed})
        # Without standard deviations, the candidates of highest mean are all near one mixture.
        problem = build_problem(predictor=BowlPredictor(std=0.0), cfg=cfg, searcher=searcher)
        first = make_trials([make_row(w) for w in sample_first_round(12, problem)])
        second_MK = propose(first, 1, problem)
        assert len(np.unique(second_MK.round(6), axis=0)) == 8


def test_select_distant_selects_the_farthest_first():
    pool_NK = np.array([[0.9, 0.1, 0, 0], [0, 0, 0, 1.0], [0.8, 0.2, 0, 0]])
    assert select_distant(pool_NK, np.eye(4)[:1], 2).tolist() == [1, 2]


def test_pattern_search_reaches_the_maximum_inside_the_set_and_never_gets_worse():
    def score(weights_MK):
        return -np.square(weights_MK - BEST_K).sum(axis=1)

    starts_SK = SPACE.project(np.eye(4))
    optima_SK, score_S = pattern_search(starts_SK, SPACE, score, np.random.default_rng(0))
    assert SPACE.contains(optima_SK).all()
    np.testing.assert_allclose(optima_SK[0], BEST_K, atol=0.01)
    assert (np.diff(score_S) <= 0).all()
    for start_1K in (*starts_SK[:, None], BEST_K[None]):
        _, score_1 = pattern_search(start_1K, SPACE, score, np.random.default_rng(0))
        assert score_1[0] >= score(start_1K)[0]


@pytest.mark.parametrize("min_weight", [0.5, 0.33, 0.25])
def test_with_a_large_minimum_weight_the_best_set_of_domains_is_found(min_weight):
    rng, domains, tokens_K = np.random.default_rng(0), tuple("abcdef"), np.arange(6.0, 0.0, -1.0)
    limits = Constraints(
        max_epochs=None, max_share_ratio=None, target_tokens=1.0, min_weight=min_weight
    )
    space = FeasibleSet.from_constraints(domains, tokens_K, limits)
    use_K = np.array([1.0, 1.0, 1.0, 3.0, 3.0, 3.0])  # the largest domains help least
    rows = [
        {
            **{"round": 0, "method": "proposal", "seed": 0, "metrics": {"m": (w_K - use_K) @ w_K}},
            "weights": dict(zip(domains, w_K.tolist(), strict=True)),
        }
        for w_K in rng.dirichlet(np.ones(6), 40)
    ]
    cfg = load(settings=["search.candidates=200"]).search
    objective = Objective.parse("m:min", ("m",))
    problem = Problem(space, objective, BowlPredictor(), UCBSearcher(), cfg)
    state = SearchState.from_trials(Trials.from_rows(rows, domains, ("m",)), problem)
    best = -np.inf
    for n in range(1, int(1.0 / min_weight) + 1):
        for chosen in itertools.combinations(range(6), n):
            tried_MK = np.zeros((200, 6))
            part_MK = rng.dirichlet(np.ones(n), 200)
            tried_MK[:, chosen] = min_weight + (1.0 - n * min_weight) * part_MK
            best = max(best, float(state.penalized(tried_MK).max()))
    found = float(state.penalized(UCBSearcher().recommend(state)[None])[0])
    assert found >= best - 1e-3 * state.penalized.score_std


def test_a_state_sorts_domains_and_can_restore_their_order(rows):
    order = [2, 0, 3, 1]
    problem = build_problem(SPACE.reorder_domains(order))
    trials = Trials.from_rows(rows, problem.space.domains, METRICS)
    state = SearchState.from_trials(trials, problem)
    assert state.trials.domains == state.problem.space.domains == DOMAINS
    np.testing.assert_array_equal(state.trials.weights_TK, make_trials(rows).weights_TK)
    np.testing.assert_array_equal(BEST_K[state.restore_K], BEST_K[order])
    with pytest.raises(AssertionError, match="differ in domains"):
        SearchState.from_trials(trials, build_problem())


def test_a_state_leaves_out_trials_of_the_recommendation(rows):
    more = [*rows, make_row(BEST_K, 3, "recommended")]
    state = SearchState.from_trials(make_trials(more), build_problem())
    assert len(state.trials) == len(rows)
    assert "recommended" not in state.trials.methods_T


@dataclasses.dataclass(frozen=True)
class JointBowl:
    """A fitted bowl whose errors have a covariance."""

    predict: Predict
    noise: float = 0.01

    def __call__(self, weights_MK):
        return self.predict(weights_MK)

    def mean(self, weights_MK):
        return self.predict(weights_MK)[0]

    def joint(self, weights_MK):
        return self.mean(weights_MK), 1e-4 * weights_MK @ weights_MK.T


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountingPredictor(BowlPredictor):
    """Records the number of mixtures of every fit."""

    fits: list[int] = dataclasses.field(default_factory=list)

    def fit(self, weights_TK, values_T, noise_T) -> Predict:
        self.fits.append(len(weights_TK))
        return JointBowl(super().fit(weights_TK, values_T, noise_T))


def test_a_state_fits_its_surrogate_once(rows):
    predictor = CountingPredictor()
    state = SearchState.from_trials(make_trials(rows), build_problem(predictor=predictor))
    recommendation = recommend(state)
    find_pareto_front(state, 2)
    again = estimate_further_round(state, recommendation.validation.score.calibration)
    assert again == recommendation.further_round
    assert again.expected_gain is not None
    n_metrics, n_folds, n_mixtures = 2, 5, recommendation.n_mixtures
    assert predictor.fits.count(n_mixtures) == n_metrics
    assert len(predictor.fits) == n_metrics * (1 + n_folds)


def test_the_recommendation_is_the_optimum_and_the_true_gain_is_in_its_interval(recommendation):
    np.testing.assert_allclose(recommendation.weights_K, BEST_K, atol=0.06)
    true_gain = np.square(0.25 - BEST_K).sum()
    assert recommendation.gain.low < true_gain < recommendation.gain.high
    assert recommendation.verdict == "gain"
    assert recommendation.gain.p_better > 0.95
    # Later rounds are near the optimum, where ranks are mostly noise.
    assert recommendation.quality["score"] > 0.75
    assert set(recommendation.quality) == {"x.bpb", "y.bpb", "score"}
    assert (recommendation.n_trials, recommendation.n_mixtures) == (32, 27)
    natural = recommendation.baselines[0]
    assert natural.name == "natural"
    assert recommendation.score_mean > natural.score_mean
    np.testing.assert_allclose(recommendation.noise_Q, 0.01, atol=0.008)


def test_near_ties_are_averaged_if_configured_and_stay_near_the_optimum(rows, recommendation):
    averaged = recommend_from(
        rows, build_problem(searcher=UCBSearcher(shortlist=60, near_ties=0.5))
    )
    assert not np.array_equal(recommendation.weights_K, averaged.weights_K)
    assert SPACE.contains(averaged.weights_K)
    np.testing.assert_allclose(averaged.weights_K, recommendation.weights_K, atol=0.05)
    assert averaged.score_mean <= recommendation.score_mean


def test_measuring_the_recommendation_does_not_change_it(rows, recommendation):
    measured = [
        make_row(recommendation.weights_K, 3, "recommended", seed, noise=0.3) for seed in range(3)
    ]
    second = recommend_from([*rows, *measured], build_problem())
    np.testing.assert_array_equal(recommendation.weights_K, second.weights_K)
    assert recommendation.gain == second.gain


def test_no_gain_is_claimed_if_metrics_are_random():
    n_gains = 0
    mixtures_MK = sample_first_round(24, build_problem())
    for seed in range(12):
        random = np.random.default_rng(seed)
        rows = [make_row(w) for w in mixtures_MK]
        for row in rows:
            row["metrics"] = {"x.bpb": random.normal(), "y.bpb": random.normal()}
        recommendation = recommend_from(rows, build_problem(predictor=BowlPredictor(std=0.3)))
        n_gains += recommendation.verdict == "gain"
    assert n_gains <= 1


def test_the_slope_is_zero_without_a_positive_relation_to_measured_values():
    measured_D, std_D = np.arange(8.0), np.ones(8)
    reversed_ = Calibration.fit(measured_D, -measured_D, std_D, np.zeros(8))
    assert (reversed_.slope, reversed_.spearman) == (0.0, pytest.approx(-1.0))
    constant = Calibration.fit(measured_D, np.full(8, 3.0), std_D, np.zeros(8))
    assert constant.slope == 0.0
    assert np.isnan(constant.spearman)
    assert np.isnan(Calibration.fit(np.ones(8), measured_D, std_D, np.zeros(8)).spearman)


def test_far_too_small_standard_deviations_are_calibrated():
    random = np.random.default_rng(0)
    measured_D, error_D = random.normal(size=64), 0.1 * random.normal(size=64)
    small = Calibration.fit(measured_D, measured_D + error_D, np.full(64, 1e-3), np.zeros(64))
    assert small.slope == pytest.approx(1.0, abs=0.05)
    std_D = small.compute_new_run_std(np.ones((64, 1)), measured_D, np.full(64, 1e-3), 0.0)
    np.testing.assert_allclose(std_D, 0.1, rtol=0.5)
    zero = Calibration.fit(measured_D, measured_D + error_D, np.zeros(64), np.zeros(64))
    assert np.isfinite(zero.inflation.factor_at(measured_D)).all()


def test_noise_that_explains_all_errors_keeps_the_factor_above_zero():
    """Six replicates estimate the noise to a third; a high estimate must not remove the std."""
    random = np.random.default_rng(1)
    mean_D = random.normal(size=64)
    measured_D = mean_D + 0.3 * random.normal(size=64)
    noise_D = np.full(64, 0.4)
    inflation = Calibration.fit(measured_D, mean_D, np.full(64, 0.1), noise_D).inflation
    assert 0.25 < inflation.factor_at(np.zeros(1))[0] < 1.0


def test_replicates_that_differ_by_rounding_have_no_noise():
    rows = [make_row(w, seed=s) for w in np.eye(4) for s in range(3)]
    for row in rows:
        row["metrics"] = {"x.bpb": 0.1, "y.bpb": 3.0 + 0.1 * row["seed"]}
    np.testing.assert_allclose(make_trials(rows).group_replicates().noise_Q, [0.0, 0.1])


def test_standard_deviations_are_inflated_to_the_errors_of_cross_validation():
    random = np.random.default_rng(0)
    truth_D = random.normal(size=400)
    measured_D = truth_D + 0.5 * random.normal(size=400)
    calibration = Calibration.fit(measured_D, truth_D, np.full(400, 0.1), np.full(400, 0.4))
    np.testing.assert_allclose(calibration.inflation.factor_at(truth_D[:1]), 3.0, rtol=0.25)
    std_1 = calibration.compute_new_run_std(np.ones((1, 1)), truth_D[:1], np.array([0.1]), 0.4)
    np.testing.assert_allclose(std_1, 0.5, rtol=0.15)
    assert 0.9 < calibration.slope <= 1.0


def test_intervals_cover_small_errors_and_large_errors():
    random = np.random.default_rng(0)
    mean_M, std_M = random.uniform(2.0, 4.0, size=600), np.full(600, 0.1)
    measured_M = mean_M + 0.05 * np.exp(1.2 * (mean_M - 3.0)) * random.normal(size=600)
    fitted_M = np.arange(600) < 200
    calibration = Calibration.fit(
        measured_M[fitted_M], mean_M[fitted_M], std_M[fitted_M], np.zeros(200)
    )
    half_width_M = 1.645 * calibration.compute_new_run_std(np.ones((600, 1)), mean_M, std_M, 0.0)
    inside_M = np.abs(measured_M - mean_M) <= half_width_M
    for part_M in (mean_M < 2.6, mean_M > 3.4):
        assert 0.84 <= inside_M[~fitted_M & part_M].mean() <= 0.97
    factors = calibration.inflation.factor_at(np.array([2.0, -100.0, 4.0, 100.0]))
    np.testing.assert_allclose(factors[[0, 2]], factors[[1, 3]], rtol=0.05)


def test_errors_without_a_trend_get_a_constant_factor():
    random = np.random.default_rng(3)
    mean_D = random.normal(size=64)
    measured_D = mean_D + 0.2 * random.normal(size=64)
    inflation = Calibration.fit(measured_D, mean_D, np.full(64, 0.1), np.zeros(64)).inflation
    np.testing.assert_allclose(inflation.factor_at(np.array([-2.0, 2.0])), 2.0, rtol=0.35)


def test_draws_of_many_domains_are_as_dense_as_those_of_few():
    """The share of domains with weight does not fall with their number."""
    shares = []
    for n_domains in (21, 84):
        tokens_K = np.ones(n_domains)
        names = tuple(f"d{k:02d}" for k in range(n_domains))
        space = FeasibleSet.from_constraints(
            names, tokens_K, Constraints(target_tokens=1.0, max_epochs=None, min_weight=1e-4)
        )
        problem = Problem.from_config(space, None, load().search)
        drawn_MK = problem.sample(np.random.default_rng(0), 400)
        shares.append(float((drawn_MK > 0.1 / n_domains).mean()))
    assert shares[1] == pytest.approx(shares[0], abs=0.05)

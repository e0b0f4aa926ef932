"""The search itself: what it knows, what it trains next, what it answers, and how sure it is."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from climb.config import load
from climb.errors import ComponentError, ConfigError, SearchError
from climb.limits import Limits
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.predictor import Predict
from climb.search import Gain, Problem, Trials, anchors, compare, propose, recommend
from climb.search.answer import _gain
from climb.search.calibration import Calibration, Inflation
from climb.search.evidence import evidence
from climb.search.promising import PromisingSearcher, promising
from climb.search.refine import refine
from climb.search.rounds import first_round, spread_out
from climb.search.surrogate import Surrogate
from climb.testing.predictors import BowlPredictor

DOMAINS = ("a", "b", "c", "d")
BEST_K = np.array([0.1, 0.5, 0.3, 0.1])
SPACE = FeasibleSet.of(
    DOMAINS, np.ones(4), Limits(target_tokens=4.0, max_epochs=2.4, min_weight=1e-3)
)
OBJECTIVE = Objective.parse("0.5*x.bpb:min + 0.5*y.bpb:min", ("x.bpb", "y.bpb"))
CFG = load(
    settings=[
        "search.trials_per_round=[12,8,6]",
        "search.candidates=300",
        "search.seed=1",
    ]
).search


def losses(weights_K):
    """Two bowls whose mean has its bottom at BEST_K."""
    off = np.square(weights_K - BEST_K).sum()
    return off + 0.3 * weights_K[0], off - 0.3 * weights_K[0]


def row(weights_K, round_=0, method="proposal", seed=0, noise=0.0):
    x, y = losses(np.asarray(weights_K))
    shake = noise * np.random.default_rng([seed, *(int(1e6 * w) for w in weights_K)]).normal(size=2)
    return {
        "round": round_,
        "method": method,
        "seed": seed,
        "weights": dict(zip(DOMAINS, map(float, weights_K), strict=True)),
        "metrics": {"x.bpb": x + shake[0], "y.bpb": y + shake[1], "other": 1.0},
    }


def told(rows):
    return Trials.from_rows(rows, DOMAINS, ("x.bpb", "y.bpb"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Broken:
    value: float = float("nan")

    def fit(self, weights_TK, values_T, noise_T) -> Predict:
        return lambda w: (np.full(len(w), self.value), np.zeros(len(w)))


def problem(space=SPACE, predictor=None, cfg=CFG, searcher=None):
    searcher = searcher or PromisingSearcher(pick_from_top=60)
    return Problem(space, OBJECTIVE, predictor or BowlPredictor(), searcher, cfg)


def ask(rows, round_):
    return propose(told(rows), round_, problem())


def searched(noise=0.0):
    rows = [row(w, 0, method, seed, noise) for method, w, seed in anchors(SPACE, 3)]
    for round_ in range(3):
        rows += [row(w, round_, noise=noise) for w in ask(rows, round_)]
    return rows


def test_rows_arrive_in_any_order_and_mean_the_same():
    rows = searched(noise=0.01)
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    one, other = told(rows), told(shuffled)
    np.testing.assert_array_equal(one.weights_TK, other.weights_TK)
    np.testing.assert_array_equal(one.metrics_TQ, other.metrics_TQ)
    assert one.methods_T == other.methods_T


def test_a_row_that_cannot_be_used_is_named():
    bad = row(BEST_K, seed=7) | {"metrics": {"x.bpb": 1.0, "y.bpb": float("nan")}}
    with pytest.raises(
        SearchError, match=r"round 0, method proposal, seed 7: metric 'y.bpb' is nan"
    ):
        told([bad])
    with pytest.raises(SearchError, match=r"metric 'y.bpb' is None.*its metrics: x.bpb"):
        told([bad | {"metrics": {"x.bpb": 1.0}}])
    with pytest.raises(SearchError, match=r"seed 7: the mixture weighs unknown domains \['z'\]"):
        told([bad | {"weights": {"z": 1.0}}])


def test_repeats_are_averaged_and_their_noise_is_pooled():
    rows = [row(BEST_K, seed=s) for s in range(2)] + [row([1, 0, 0, 0], seed=s) for s in range(2)]
    for i, shift in enumerate((0.1, -0.1, 0.3, -0.3)):
        rows[i]["metrics"]["x.bpb"] += shift
    repeats = told([*rows, row([0, 1, 0, 0])]).repeats()
    assert sorted(repeats.counts_D.tolist()) == [1, 2, 2]
    np.testing.assert_allclose(repeats.noise_Q, [np.sqrt((0.02 + 0.18) / 2), 0.0], atol=1e-12)


def test_without_repeats_the_noise_is_unknown():
    assert np.isnan(told([row(BEST_K), row([1, 0, 0, 0])]).repeats().noise_Q).all()


def test_no_trials_are_trials_too():
    assert len(told([])) == 0
    assert told([]).repeats().means_DQ.shape == (0, 2)


def test_anchors_are_natural_and_uniform_inside_the_set_with_every_seed():
    space = FeasibleSet.of(DOMAINS, [1, 2, 3, 4], Limits(target_tokens=6.0, max_epochs=1.0))
    found = anchors(space, 2)
    assert [(m, s) for m, _, s in found] == [
        ("natural", 0), ("natural", 1), ("uniform", 0), ("uniform", 1),
    ]  # fmt: skip
    assert space.contains(np.stack([w for _, w, _ in found])).all()


def test_the_first_round_fills_the_set_better_than_plain_draws():
    chosen_MK = first_round(12, problem())
    assert SPACE.contains(chosen_MK).all()
    plain_MK = SPACE.sample(np.random.default_rng(0), 12, concentration=(0.1, 5), temperature=0.5)

    def closest(rows_MK):
        roots = np.sqrt(rows_MK)
        apart = np.linalg.norm(roots[:, None] - roots[None], axis=2)
        return apart[~np.eye(len(rows_MK), dtype=bool)].min()

    assert closest(chosen_MK) > 3.0 * closest(plain_MK)


def test_later_rounds_close_in_on_the_best_mixture():
    rows, distance = [], []
    for round_ in range(3):
        weights_MK = ask(rows, round_)
        assert SPACE.contains(weights_MK).all()
        assert len(np.unique(np.round(weights_MK, 6), axis=0)) == CFG.trials_per_round[round_]
        rows += [row(w, round_) for w in weights_MK]
        distance.append(np.abs(weights_MK - BEST_K).sum(axis=1).min())
    assert distance[1] < 0.05
    assert distance[1] < distance[0] / 2


def test_a_round_cut_short_proposes_the_same_mixtures_again():
    rows = [row(w) for w in ask([], 0)]
    planned_MK = ask(rows, 1)
    cut_short = rows + [row(w, 1) for w in planned_MK[:3]]
    np.testing.assert_array_equal(ask(cut_short, 1), planned_MK)
    answered = [*rows, row(BEST_K, 0, method="found")]
    np.testing.assert_array_equal(ask(answered, 1), planned_MK)


def test_permuting_domains_permutes_proposals_and_answer():
    rows, order = searched(noise=0.01), [2, 0, 3, 1]
    turned = SPACE.reordered(order)
    trials = Trials.from_rows(rows, turned.domains, ("x.bpb", "y.bpb"))
    for round_ in (0, 1):
        there_MK = propose(trials, round_, problem(turned))
        np.testing.assert_array_equal(there_MK, ask(rows, round_)[:, order])
    here = recommend(told(rows), problem())
    there = recommend(trials, problem(turned))
    np.testing.assert_array_equal(there.weights_K, here.weights_K[order])
    assert there.gain == here.gain


def test_the_first_round_keeps_away_from_what_was_run_already():
    run_MK = first_round(12, problem())
    again_MK = first_round(12, problem(), run_MK)

    def nearest(rows_MK):
        apart_MM = np.linalg.norm(np.sqrt(rows_MK)[:, None] - np.sqrt(run_MK)[None], axis=2)
        return apart_MM.min()

    assert nearest(run_MK) == 0.0
    assert nearest(again_MK) > 0.1
    # Runs carried from other domains stand before round 0, and the searcher sees them.
    carried = told([row(w, round_=-1) for w in run_MK])
    np.testing.assert_allclose(propose(carried, 0, problem()), again_MK)


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_mixtures():
    assert ask([], 0).tobytes() == ask([], 0).tobytes()
    other = CFG.model_copy(update={"seed": 2})
    assert not np.array_equal(first_round(12, problem(cfg=other)), ask([], 0))


def test_a_round_that_is_not_configured_is_refused():
    with pytest.raises(SearchError, match="round 3 is not among the 3 rounds"):
        ask([], 3)


@pytest.mark.parametrize("wrong", [{"ties": -1.0}, {"pick_from_top": 0}, {"boldness": -0.1}])
def test_a_searcher_s_numbers_are_checked_when_it_is_made(wrong):
    with pytest.raises(ConfigError, match="must be at least 0, pick_from_top at least 1"):
        PromisingSearcher(**wrong)


def test_too_few_mixtures_cannot_be_learned_from():
    rows = [row(w) for w in np.eye(4)[:3]] * 2
    with pytest.raises(SearchError, match="3 distinct mixtures were trained to the end"):
        ask(rows, 1)


def test_a_set_with_one_mixture_has_nothing_to_search():
    fixed = FeasibleSet.of(DOMAINS, [1, 2, 3, 4], Limits(target_tokens=10.0, max_epochs=1.0))
    with pytest.raises(SearchError, match="gave 0 distinct mixtures of 12 wanted"):
        first_round(12, problem(fixed))
    rows = [row(w) for w in ask([], 0)]
    with pytest.raises(SearchError, match="distinct mixtures of 8 wanted"):
        propose(told(rows), 1, problem(fixed))


@pytest.mark.parametrize("broken", [Broken(), Broken(value=np.inf)], ids=["nan", "inf"])
def test_a_predictor_that_answers_nonsense_is_named(broken):
    trials = told([row(w) for w in ask([], 0)])
    surrogate = Surrogate.fit(trials, OBJECTIVE, broken)
    with pytest.raises(
        ComponentError, match=r"predictor's mean has shape \(2,\) with 2 values not"
    ):
        surrogate.score(np.stack([BEST_K, BEST_K]))


def test_candidates_near_each_other_are_not_both_chosen():
    pool = np.array([[0.5, 0.5, 0, 0], [0.5001, 0.4999, 0, 0], [0, 0, 0.5, 0.5]])
    chosen = promising(pool, np.array([1.0, 0.999, 0.9]), np.full(3, 0.2), np.eye(4)[:1], 2)
    assert chosen.tolist() == [0, 2]
    assert promising(pool, np.array([1.0, 0.999, 0.9]), np.full(3, 0.2), pool, 2).tolist() == []


@pytest.mark.parametrize("pick_from_top", [8, 12])
def test_few_best_candidates_that_lie_near_each_other_still_give_a_whole_round(pick_from_top):
    searcher = PromisingSearcher(pick_from_top=pick_from_top)
    for seed in range(5):
        cfg = CFG.model_copy(update={"seed": seed})
        # A surface without spread: the candidates of highest mean crowd around one place.
        crowded = problem(predictor=BowlPredictor(spread=0.0), cfg=cfg, searcher=searcher)
        first = told([row(w) for w in first_round(12, crowded)])
        second_MK = propose(first, 1, crowded)
        assert len(np.unique(second_MK.round(6), axis=0)) == 8


def test_spread_out_takes_the_farthest_first():
    pool = np.array([[0.9, 0.1, 0, 0], [0, 0, 0, 1.0], [0.8, 0.2, 0, 0]])
    assert spread_out(pool, np.eye(4)[:1], 2).tolist() == [1, 2]


def test_refining_climbs_to_the_top_inside_the_set_and_never_goes_down():
    def height(w):
        return -np.square(w - BEST_K).sum(axis=1)

    starts_SK = SPACE.project(np.eye(4))
    reached_SK, top_S = refine(starts_SK, SPACE, height, np.random.default_rng(0))
    assert SPACE.contains(reached_SK).all()
    np.testing.assert_allclose(reached_SK[0], BEST_K, atol=0.01)
    assert (np.diff(top_S) <= 0).all()
    for start_1K in (*starts_SK[:, None], BEST_K[None]):
        _, top_1 = refine(start_1K, SPACE, height, np.random.default_rng(0))
        assert top_1[0] >= height(start_1K)[0]


def test_the_answer_is_the_optimum_with_a_gain_that_holds_the_truth():
    answer = recommend(told(searched(noise=0.01)), problem())
    np.testing.assert_allclose(answer.weights_K, BEST_K, atol=0.06)
    truth = np.square(0.25 - BEST_K).sum()
    assert answer.gain.low < truth < answer.gain.high
    assert answer.verdict == "gain"
    assert answer.p_better > 0.95
    # Later rounds crowd near the optimum, where ranks are mostly noise.
    assert answer.quality["score"] > 0.75
    assert set(answer.quality) == {"x.bpb", "y.bpb", "score"}
    assert (answer.n_trials, answer.n_mixtures) == (32, 27)
    assert answer.score_mean > answer.natural_mean
    np.testing.assert_allclose(answer.noise_Q, 0.01, atol=0.008)


def test_near_ties_are_averaged_when_asked_and_stay_near_the_top():
    trials = told(searched(noise=0.01))
    plain = recommend(trials, problem())
    averaged = recommend(trials, problem(searcher=PromisingSearcher(pick_from_top=60, ties=0.5)))
    assert not np.array_equal(plain.weights_K, averaged.weights_K)
    assert SPACE.contains(averaged.weights_K)
    np.testing.assert_allclose(averaged.weights_K, plain.weights_K, atol=0.05)
    assert averaged.score_mean <= plain.score_mean


def test_measuring_the_answer_does_not_change_it():
    rows = searched(noise=0.01)
    first = recommend(told(rows), problem())
    rows += [row(first.weights_K, 3, "found", seed, noise=0.3) for seed in range(3)]
    second = recommend(told(rows), problem())
    np.testing.assert_array_equal(first.weights_K, second.weights_K)
    assert first.gain == second.gain


def test_where_nothing_can_be_learned_no_gain_is_claimed():
    claimed = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rows = [row(w) for w in first_round(24, problem())]
        for one in rows:
            one["metrics"] = {"x.bpb": rng.normal(), "y.bpb": rng.normal()}
        answer = recommend(told(rows), problem(predictor=BowlPredictor(spread=0.3)))
        claimed += answer.verdict == "gain"
    assert claimed <= 1


def test_predictions_that_never_come_true_leave_no_slope():
    measured, std = np.arange(8.0), np.ones(8)
    wrong = Calibration.of(measured, -measured, std, np.zeros(8))
    assert (wrong.slope, wrong.rank) == (0.0, pytest.approx(-1.0))
    constant = Calibration.of(measured, np.full(8, 3.0), std, np.zeros(8))
    assert constant.slope == 0.0
    assert np.isnan(constant.rank)
    assert np.isnan(Calibration.of(np.ones(8), measured, std, np.zeros(8)).rank)


def test_a_predictor_that_claims_far_too_little_is_calibrated_too():
    rng = np.random.default_rng(0)
    measured, off = rng.normal(size=64), 0.1 * rng.normal(size=64)
    sure = Calibration.of(measured, measured + off, np.full(64, 1e-3), np.zeros(64))
    assert sure.slope == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(sure.new_run(measured, np.full(64, 1e-3), 0.0), 0.1, rtol=0.5)
    none = Calibration.of(measured, measured + off, np.zeros(64), np.zeros(64))
    assert np.isfinite(none.inflation.at(measured)).all()


def test_seed_noise_that_covers_all_errors_leaves_the_claimed_spread():
    """Six repeats know the noise to a third: too much of it must not make a predictor sure."""
    rng = np.random.default_rng(1)
    mean = rng.normal(size=64)
    measured = mean + 0.3 * rng.normal(size=64)
    told_noise = np.full(64, 0.4)
    inflation = Calibration.of(measured, mean, np.full(64, 0.1), told_noise).inflation
    assert 0.25 < inflation.at(np.zeros(1))[0] < 1.0


def test_a_gain_is_what_is_left_of_a_difference_with_every_doubt_in_its_interval():
    rows = [row(w) for w in np.random.default_rng(0).dirichlet(np.ones(4), size=7)]
    plain = Surrogate.fit(told(rows), OBJECTIVE, BowlPredictor(spread=0.3))
    pair = np.eye(4)[:2]
    inflation = Inflation(level=2.0)
    believed = Calibration(0.0, slope=0.5, slope_std=0.2, inflation=inflation, rank=1.0)
    gain = _gain(plain, believed, told(rows), pair)
    predicted = float(np.subtract(*plain.mean(pair)))
    # Errors of the two metrics are one: each weighs a half, each pair of spreads is independent.
    doubt = 2.0 * 0.3 * np.sqrt(2.0)
    spread = np.hypot(doubt, 0.2 * predicted)
    assert gain.mean == pytest.approx(0.5 * predicted)
    assert gain.high - gain.mean == pytest.approx(stats.t.ppf(0.95, 7 - 2) * spread)
    # Repeats show what one run's noise is: of each of the two runs that are compared.
    again = [row(w, seed=1) for w in np.random.default_rng(0).dirichlet(np.ones(4), size=7)]
    for r in again:
        r["metrics"] = {name: value + 0.2 for name, value in r["metrics"].items()}
    noisy = Surrogate.fit(told(rows + again), OBJECTIVE, BowlPredictor(spread=0.3))
    gain = _gain(noisy, believed, told(rows + again), pair)
    noise = 0.2 / np.sqrt(2.0)
    spread = np.linalg.norm([doubt, 0.2 * np.subtract(*noisy.mean(pair)), noise, noise])
    assert gain.high - gain.mean == pytest.approx(stats.t.ppf(0.95, 7 - 2) * spread)


def test_seeds_that_agree_to_the_last_digit_show_no_noise():
    rows = [row(w, seed=s) for w in np.eye(4) for s in range(3)]
    for r in rows:
        r["metrics"] = {"x.bpb": 0.1, "y.bpb": 3.0 + 0.1 * r["seed"]}
    np.testing.assert_allclose(told(rows).repeats().noise_Q, [0.0, 0.1])


def test_spreads_are_inflated_to_what_held_out_trials_show():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=400)
    calibration = Calibration.of(
        truth + 0.5 * rng.normal(size=400), truth, np.full(400, 0.1), np.full(400, 0.4)
    )
    np.testing.assert_allclose(calibration.inflation.at(truth[:1]), 3.0, rtol=0.25)
    np.testing.assert_allclose(calibration.new_run(truth[:1], np.array([0.1]), 0.4), 0.5, rtol=0.15)
    assert 0.9 < calibration.slope <= 1.0


def test_intervals_hold_where_errors_are_small_and_where_they_are_large():
    rng = np.random.default_rng(0)
    mean, claimed = rng.uniform(2.0, 4.0, size=600), np.full(600, 0.1)
    measured = mean + 0.05 * np.exp(1.2 * (mean - 3.0)) * rng.normal(size=600)
    seen = np.arange(600) < 200
    calibration = Calibration.of(measured[seen], mean[seen], claimed[seen], np.zeros(200))
    reach = 1.645 * calibration.new_run(mean, claimed, 0.0)
    inside = np.abs(measured - mean) <= reach
    for part in (mean < 2.6, mean > 3.4):
        assert 0.84 <= inside[~seen & part].mean() <= 0.97
    beyond = calibration.inflation.at(np.array([2.0, -100.0, 4.0, 100.0]))
    np.testing.assert_allclose(beyond[[0, 2]], beyond[[1, 3]], rtol=0.05)


def test_errors_without_a_trend_are_given_none():
    rng = np.random.default_rng(3)
    mean = rng.normal(size=64)
    measured = mean + 0.2 * rng.normal(size=64)
    inflation = Calibration.of(measured, mean, np.full(64, 0.1), np.zeros(64)).inflation
    np.testing.assert_allclose(inflation.at(np.array([-2.0, 2.0])), 2.0, rtol=0.35)


def test_a_direct_comparison_is_welchs():
    rows = [row(BEST_K, 1, "found", s) for s in range(3)]
    rows += [row([0.25] * 4, 0, "natural", s) for s in range(3)]
    for shift, one in zip((0.1, 0.0, -0.1, 0.02, 0.0, -0.02), rows, strict=True):
        one["metrics"]["x.bpb"] += shift
    gain = compare(told(rows), OBJECTIVE, "found", "natural")
    # scores: 0.5 x; variances 0.0025 and 0.0001 over three seeds each; Welch's df 2.16, t 2.78
    assert gain.mean == pytest.approx(np.square(0.25 - BEST_K).sum())
    assert (gain.high - gain.low) / 2 == pytest.approx(2.815 * np.sqrt(0.0026 / 3), rel=0.02)
    assert gain.verdict == "gain"


def test_seeds_without_noise_decide_at_once_and_one_seed_decides_nothing():
    rows = [row(BEST_K, 1, "found", s) for s in range(2)]
    rows += [row([0.25] * 4, 0, "natural", s) for s in range(2)]
    gain = compare(told(rows), OBJECTIVE, "found", "natural")
    assert gain.low == gain.mean == gain.high > 0
    assert gain.p_better == 1.0
    assert Gain.of(0.0, 0.0).p_better == 0.5
    with pytest.raises(SearchError, match="'uniform' has 0 finished trials"):
        compare(told(rows), OBJECTIVE, "found", "uniform")


def test_an_interval_that_holds_zero_is_no_gain():
    assert Gain.of(1.0, 1.0).verdict == "no gain found"
    assert Gain.of(1.0, 0.5).verdict == "gain"
    assert Gain.of(-1.0, 0.1).verdict == "no gain found"


def test_the_evidence_shows_quality_round_by_round():
    rows = searched(noise=0.01)
    answer = recommend(told(rows), problem())
    shown = evidence(told(rows), answer, problem())
    assert [r["round"] for r in shown["quality"]["rounds"]] == [0, 1, 2]
    assert len(shown["cross_validated"]) == answer.n_mixtures
    assert shown["effects"] == answer.effects.as_json()
    assert shown["further"] == {"n_trials": 6, "worth": answer.further.worth}
    signal = dict(zip(answer.signal.metric_names, answer.signal.ratio_Q, strict=True))
    assert shown["signal"] == pytest.approx(signal)
    assert shown["noisy"] == []
    assert json.loads(json.dumps(shown, allow_nan=False)) == json.loads(json.dumps(shown))
    assert shown["quality"]["rounds"][2]["spearman"] == pytest.approx(answer.quality)
    before = recommend(told(rows).before(2), problem())
    assert shown["quality"]["rounds"][1]["spearman"] == pytest.approx(before.quality)
    assert shown["noise"] == pytest.approx({"x.bpb": answer.noise_Q[0], "y.bpb": answer.noise_Q[1]})
    assert shown["weighed"] == {"x.bpb": -0.5, "y.bpb": -0.5}


def test_rounds_with_too_few_mixtures_have_no_quality():
    rows = [row(w) for w in np.eye(4)[:2]] + [row(w, 1) for w in first_round(12, problem())]
    shown = evidence(told(rows), recommend(told(rows), problem()), problem())
    assert [r["round"] for r in shown["quality"]["rounds"]] == [1]


def test_the_evidence_names_noise_and_leaves_null_what_nobody_knows():
    rows = [row(w) for w in first_round(12, problem())]
    alone = evidence(told(rows), recommend(told(rows), problem()), problem())
    assert alone["signal"] == {"x.bpb": None, "y.bpb": None}
    assert alone["noisy"] == []
    repeated = [*rows, *(row(w, seed=1, noise=3.0) for w in first_round(12, problem()))]
    shown = evidence(told(repeated), recommend(told(repeated), problem()), problem())
    assert set(shown["noisy"]) == {"x.bpb", "y.bpb"}
    assert all(0.0 <= ratio < CFG.min_signal for ratio in shown["signal"].values())
    exact = [*rows, *(row(w, seed=1) for w in first_round(12, problem()))]
    shown = evidence(told(exact), recommend(told(exact), problem()), problem())
    assert shown["signal"] == {"x.bpb": None, "y.bpb": None}  # seeds make no difference: infinite

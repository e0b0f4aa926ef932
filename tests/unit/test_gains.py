"""Gains: measured in pairs of equal seeds, or predicted, each with its interval."""

import numpy as np
import pytest
from scipy import stats

from climb.errors import SearchError
from climb.objective import Objective
from climb.search import Gain, Surrogate, Trials, compare
from climb.search.calibration import Calibration, Inflation
from climb.search.gains import combine_std_errors, paired_gain
from climb.search.recommendation import predict_gain
from climb.testing.predictors import BowlPredictor

DOMAINS = ("a", "b", "c", "d")
BEST_K = np.array([0.1, 0.5, 0.3, 0.1])
METRICS = ("x.bpb", "y.bpb")
OBJECTIVE = Objective.parse("0.5*x.bpb:min + 0.5*y.bpb:min", METRICS)
TRUE_GAIN = float(np.square(0.25 - BEST_K).sum())


def make_row(weights_K, method="proposal", seed=0, shift=0.0):
    """Make the row of a trial; its score is -(squared distance to BEST_K) - `shift`."""
    distance = float(np.square(np.asarray(weights_K) - BEST_K).sum()) + shift
    skew = 0.3 * float(weights_K[0])
    return {
        "round": 0,
        "method": method,
        "seed": seed,
        "weights": dict(zip(DOMAINS, map(float, weights_K), strict=True)),
        "metrics": {"x.bpb": distance + skew, "y.bpb": distance - skew},
    }


def make_trials(rows):
    return Trials.from_rows(rows, DOMAINS, METRICS)


def make_pair(recommended, natural):
    """Make trials of two mixtures; the arguments are seed -> shift."""
    rows = [make_row(BEST_K, "recommended", s, x) for s, x in recommended.items()]
    rows += [make_row([0.25] * 4, "natural", s, x) for s, x in natural.items()]
    return make_trials(rows)


def compare_pair(recommended, natural):
    return compare(make_pair(recommended, natural), OBJECTIVE, "recommended", "natural")


def test_a_measured_gain_is_the_paired_t_test():
    gain = compare_pair({0: 0.05, 1: 0.0, 2: -0.05}, {0: 0.01, 1: 0.0, 2: -0.01})
    # Differences within a seed: the true gain and -0.04, 0, 0.04. Their standard deviation is 0.04,
    # the standard error 0.04 / sqrt(3) = 0.02309, and t at 0.95 with 2 degrees of freedom is 2.920.
    assert gain.mean == pytest.approx(TRUE_GAIN)
    assert gain.mean == pytest.approx(0.11)
    assert gain.high - gain.mean == pytest.approx(0.06743, abs=1e-5)
    assert gain.mean - gain.low == pytest.approx(0.06743, abs=1e-5)
    # With 2 degrees of freedom: P(t < x) = 1/2 + x / (2 sqrt(2 + x^2)), here x = 0.11 / 0.02309.
    assert gain.p_better == pytest.approx(0.97932, abs=1e-5)
    assert gain.verdict == "gain"
    assert gain.n_pairs == 3
    assert gain.test == "paired t test over 3 seeds"
    reference = stats.ttest_rel([-0.05, 0.0, 0.05], [-0.12, -0.11, -0.10])
    low, high = reference.confidence_interval(0.90)
    assert (gain.low, gain.high) == pytest.approx((low, high))


def test_an_effect_of_the_seed_on_both_mixtures_does_not_widen_the_interval():
    narrow = compare_pair({0: 0.05, 1: 0.0, 2: -0.05}, {0: 0.01, 1: 0.0, 2: -0.01})
    same = compare_pair({0: 5.05, 1: 0.0, 2: -3.05}, {0: 5.01, 1: 0.0, 2: -3.01})
    for name in ("mean", "low", "high", "p_better"):
        assert getattr(same, name) == pytest.approx(getattr(narrow, name))


def test_only_seeds_that_both_mixtures_have_are_compared():
    gain = compare_pair({0: 9.0, 1: 0.01, 2: -0.01}, {1: 0.0, 2: 0.0, 3: -7.0})
    assert gain.n_pairs == 2
    assert gain.mean == pytest.approx(TRUE_GAIN)
    # Two differences, 0.01 below and above the mean: their standard error is 0.01.
    assert gain.high - gain.mean == pytest.approx(6.3138 * 0.01, rel=1e-4)


def test_the_gain_of_a_metric_follows_its_direction_and_not_the_order_of_seeds():
    one, other = {0: 1.0, 1: 2.0, 2: 4.0}, {2: 3.0, 1: 1.5, 0: 1.0}
    higher, lower = paired_gain(one, other), paired_gain(one, other, sign=-1.0)
    assert higher.mean == pytest.approx(0.5)
    # Differences 0, 0.5 and 1: standard deviation 0.5.
    assert higher.high - higher.mean == pytest.approx(2.91999 * 0.5 / np.sqrt(3), rel=1e-5)
    assert (lower.mean, lower.low, lower.high) == (-higher.mean, -higher.high, -higher.low)
    assert lower.p_better == pytest.approx(1.0 - higher.p_better)
    assert paired_gain(dict(reversed(one.items())), other) == higher


@pytest.mark.parametrize(
    ("n_seeds", "verdict"), [(2, "no gain found"), (4, "no gain found"), (5, "gain")]
)
def test_equal_differences_of_few_seeds_are_no_certain_gain(n_seeds, verdict):
    """Accuracies on 100 items: a sign test needs 5 equal signs, too."""
    recommended, natural = ({s: x + 0.02 * s for s in range(n_seeds)} for x in (0.53, 0.52))
    gain = paired_gain(recommended, natural)
    assert gain.mean == pytest.approx(0.01)
    assert gain.verdict == verdict
    # The standard error is that of differences whose standard deviation is their mean.
    half = stats.t.ppf(0.95, n_seeds - 1) * 0.01 / np.sqrt(n_seeds)
    assert (gain.low, gain.high) == pytest.approx((0.01 - half, 0.01 + half))
    assert 0.5 < gain.p_better < 1.0
    loss = paired_gain(natural, recommended)
    assert (loss.high < 0.0) == (verdict == "gain")


def test_differences_that_are_all_zero_have_the_interval_of_zero():
    gain = paired_gain({0: 0.1 + 0.2, 1: 0.5}, {0: 0.3, 1: 0.5})
    assert (gain.mean, gain.low, gain.high, gain.p_better) == (0.0, 0.0, 0.0, 0.5)
    assert gain.verdict == "no gain found"
    assert Gain.from_std_error(0.0, 0.0).p_better == 0.5


@pytest.mark.parametrize(
    ("natural", "n_common"), [({}, "0 seeds"), ({1: 0.0}, "1 seed"), ({2: 0.0, 3: 0.0}, "0 seeds")]
)
def test_fewer_than_two_common_seeds_cannot_be_compared(natural, n_common):
    with pytest.raises(
        SearchError,
        match=f"methods 'recommended' and 'natural' have {n_common} in common whose trials",
    ):
        compare_pair({0: 0.0, 1: 0.0}, natural)
    assert paired_gain({0: 0.0, 1: 0.0}, natural) is None


def test_an_interval_that_contains_zero_is_no_gain():
    assert Gain.from_std_error(1.0, 1.0).verdict == "no gain found"
    assert Gain.from_std_error(1.0, 0.5).verdict == "gain"
    assert Gain.from_std_error(-1.0, 0.1).verdict == "no gain found"


def test_a_predicted_gain_is_shrunk_by_the_slope_and_its_interval_has_every_uncertainty():
    mixtures_TK = np.random.default_rng(0).dirichlet(np.ones(4), size=7)
    single = make_trials([make_row(w) for w in mixtures_TK])
    surrogate = Surrogate.fit(single, OBJECTIVE, BowlPredictor(std=0.3))
    pair_2K = np.eye(4)[:2]
    calibration = Calibration(
        center=0.0, slope=0.5, slope_std=0.2, inflation=Inflation(level=2.0), spearman=1.0
    )
    gain = predict_gain(surrogate, calibration, single, pair_2K)
    predicted = float(np.subtract(*surrogate.predict_mean(pair_2K)))
    # Each metric has weight 1/2 and fully correlated errors; errors of mixtures are independent.
    error = 2.0 * 0.3 * np.sqrt(2.0)
    std = np.hypot(error, 0.2 * predicted)
    assert gain.mean == pytest.approx(0.5 * predicted)
    assert gain.high - gain.mean == pytest.approx(stats.t.ppf(0.95, 7 - 2) * std)
    assert gain.n_pairs == 0
    assert gain.test == "prediction of the surrogate"
    # With replicates, the observation noise of the two runs is added.
    rows = [make_row(w, seed=seed, shift=0.2 * seed) for w in mixtures_TK for seed in (0, 1)]
    replicated = make_trials(rows)
    noisy = Surrogate.fit(replicated, OBJECTIVE, BowlPredictor(std=0.3))
    gain = predict_gain(noisy, calibration, replicated, pair_2K)
    noise = 0.2 / np.sqrt(2.0)
    predicted = float(np.subtract(*noisy.predict_mean(pair_2K)))
    std = np.linalg.norm([error, 0.2 * predicted, noise, noise])
    # The noise has 7 degrees of freedom, and the error of 7 predictions 7 - 2.
    error_var, noise_var = std**2 - 2.0 * noise**2, 2.0 * noise**2
    degrees = std**4 / (error_var**2 / (7 - 2) + noise_var**2 / 7)
    assert gain.high - gain.mean == pytest.approx(stats.t.ppf(0.95, degrees) * std)


def test_a_predicted_gain_over_noise_from_one_pair_of_seeds_is_as_uncertain_as_that_pair():
    mixtures_TK = np.random.default_rng(0).dirichlet(np.ones(4), size=40)
    rows = [make_row(w) for w in mixtures_TK]
    trials = make_trials([*rows, make_row(mixtures_TK[0], seed=1, shift=50.0)])
    surrogate = Surrogate.fit(trials, OBJECTIVE, BowlPredictor(std=0.3))
    calibration = Calibration(
        center=0.0, slope=1.0, slope_std=0.0, inflation=Inflation(level=1.0), spearman=1.0
    )
    gain = predict_gain(surrogate, calibration, trials, np.eye(4)[:2])
    # Each of the two runs has noise of 50 / sqrt(2).
    assert gain.high - gain.mean == pytest.approx(stats.t.ppf(0.95, 1) * 50.0, rel=0.01)


def test_the_degrees_of_freedom_of_a_sum_lie_between_those_of_its_parts():
    assert combine_std_errors((3.0, 4.0), (6, 6)) == (5.0, pytest.approx(5.0**4 * 6 / (81 + 256)))
    assert combine_std_errors((3.0, 0.0), (6, 0)) == (3.0, pytest.approx(6.0))
    assert combine_std_errors((1e-6, 4.0), (60, 2)) == (pytest.approx(4.0), pytest.approx(2.0))
    assert combine_std_errors((0.0, 0.0), (6, 0)) == (0.0, np.inf)

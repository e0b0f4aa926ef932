"""Signal-to-noise ratio of metrics, and the weights that follow from it."""

import numpy as np
import pytest

from climb.config import load
from climb.errors import SearchError
from climb.objective import Objective
from climb.search import Trials
from climb.search.signal_to_noise import SignalToNoise, reweight_objective

NAMES = ("clear.bpb", "noisy.bpb", "unused")
OBJECTIVE = Objective.parse("clear.bpb:min + 3*noisy.bpb:min", NAMES)


def load_settings(**changes):
    return load(settings=[f"search.{key}={value}" for key, value in changes.items()]).search


def make_row(t, clear, noisy, seed=0, round_=0):
    return {
        "round": round_,
        "method": "proposal",
        "seed": seed,
        "weights": {"a": t, "b": 1.0 - t},
        "metrics": {"clear.bpb": clear, "noisy.bpb": noisy, "unused": 1.0},
    }


def make_trials(rows):
    return Trials.from_rows(rows, ("a", "b"), NAMES)


def make_rows(n_mixtures=300, n_seeds=3, ratio=(25.0, 0.5), noise=(0.02, 0.4), round_=0):
    """Rows whose metrics have given variances over mixtures and over seeds."""
    random = np.random.default_rng(0)
    rows = []
    for t in np.linspace(0.0, 1.0, n_mixtures):
        level_2 = random.normal(size=2) * np.sqrt(ratio) * noise
        for seed in range(n_seeds):
            rows.append(make_row(t, *(level_2 + noise * random.normal(size=2)), seed, round_))
    return rows


def test_a_planted_ratio_of_variances_is_recovered():
    measured = SignalToNoise.measure(make_trials(make_rows()), OBJECTIVE)
    assert measured.metric_names == ("clear.bpb", "noisy.bpb")
    # Standard errors: 8 % (variance of 300 mixtures) and 6 % (600 seeds); rtol is three of both.
    np.testing.assert_allclose(measured.ratio_Q, [25.0, 0.5], rtol=0.3)
    np.testing.assert_allclose(measured.noise_Q, [0.02, 0.4], rtol=0.1)


def test_variance_over_seeds_alone_gives_a_ratio_near_zero():
    measured = SignalToNoise.measure(make_trials(make_rows(ratio=(0.0, 0.0), n_seeds=2)), OBJECTIVE)
    # The variance of means of two seeds is half the variance over seeds; it is subtracted.
    assert (measured.ratio_Q < 0.15).all()


def test_the_ratio_is_nan_without_replicates_and_infinite_without_noise():
    single = SignalToNoise.measure(make_trials(make_rows(n_seeds=1)), OBJECTIVE)
    assert np.isnan(single.ratio_Q).all()
    assert single.list_below(2.0) == ()
    noiseless = SignalToNoise.measure(make_trials(make_rows(noise=(0.02, 0.0))), OBJECTIVE)
    assert np.isinf(noiseless.ratio_Q[1])
    assert noiseless.list_below(2.0) == ()
    one = SignalToNoise.measure(
        make_trials([make_row(0.5, 1.0, 1.0), make_row(0.5, 1.1, 0.9, seed=1)]), OBJECTIVE
    )
    np.testing.assert_array_equal(one.ratio_Q, 0.0)


def test_metrics_below_the_minimum_ratio_are_listed():
    measured = SignalToNoise.measure(make_trials(make_rows()), OBJECTIVE)
    assert measured.list_below(2.0) == ("noisy.bpb",)
    assert measured.list_below(0.1) == ()
    assert measured.list_below(100.0) == ("clear.bpb", "noisy.bpb")


def test_scaling_by_noise_divides_the_weight_of_a_metric_by_its_noise():
    trials = make_trials(make_rows())
    reweighted = reweight_objective(OBJECTIVE, trials, load_settings(scale="noise"))
    noise_Q = SignalToNoise.measure(trials, OBJECTIVE).noise_Q
    np.testing.assert_allclose(reweighted.weights_Q[:2], [-1.0 / noise_Q[0], -3.0 / noise_Q[1]])
    assert reweighted.weights_Q[2] == 0.0
    assert reweighted.metric_names == OBJECTIVE.metric_names


def test_scaling_without_replicates_or_noise_is_an_error():
    single, noiseless = make_trials(make_rows(n_seeds=1)), make_trials(make_rows(noise=(0.02, 0.0)))
    with pytest.raises(
        SearchError, match=r"that of 'clear.bpb' is unknown: train mixtures with several"
    ):
        reweight_objective(OBJECTIVE, single, load_settings(scale="noise"))
    zero = r"that of 'noisy.bpb' is 0, which cannot be a divisor: .* or set search.scale=raw$"
    with pytest.raises(SearchError, match=zero):
        reweight_objective(OBJECTIVE, noiseless, load_settings(scale="noise", down_weight="true"))
    with pytest.raises(SearchError, match=r"needs the noise .* or set search.down_weight=false$"):
        reweight_objective(OBJECTIVE, single, load_settings(down_weight="true"))


def test_the_default_settings_do_not_change_the_objective():
    single = make_trials(make_rows(n_seeds=1))
    assert reweight_objective(OBJECTIVE, single, load_settings()) is OBJECTIVE


def test_down_weighting_keeps_clear_metrics_and_removes_the_share_of_seeds_from_noisy_ones():
    trials = make_trials(make_rows())
    ratio = SignalToNoise.measure(trials, OBJECTIVE).ratio_Q[1]
    reweighted = reweight_objective(
        OBJECTIVE, trials, load_settings(down_weight="true", min_signal_to_noise=2.0)
    )
    np.testing.assert_allclose(reweighted.weights_Q, [-1.0, -3.0 * ratio / (1.0 + ratio), 0.0])
    lax = reweight_objective(
        OBJECTIVE, trials, load_settings(down_weight="true", min_signal_to_noise=0.1)
    )
    np.testing.assert_array_equal(lax.weights_Q, OBJECTIVE.weights_Q)
    both = reweight_objective(OBJECTIVE, trials, load_settings(down_weight="true", scale="noise"))
    scaled = reweight_objective(OBJECTIVE, trials, load_settings(scale="noise"))
    np.testing.assert_allclose(both.weights_Q[1], scaled.weights_Q[1] * ratio / (1.0 + ratio))


def test_a_metric_without_noise_is_not_down_weighted():
    noiseless = make_trials(make_rows(noise=(0.02, 0.0)))
    reweighted = reweight_objective(OBJECTIVE, noiseless, load_settings(down_weight="true"))
    np.testing.assert_array_equal(reweighted.weights_Q, OBJECTIVE.weights_Q)


def test_a_metric_of_pure_noise_stays_in_the_objective():
    rows = [make_row(p, p, float(s), seed=s) for p in (0.2, 0.5, 0.8) for s in range(2)]
    for row in rows:  # a little seed noise for the clear metric
        row["metrics"]["clear.bpb"] += 0.01 * row["seed"]
    reweighted = reweight_objective(OBJECTIVE, make_trials(rows), load_settings(down_weight="true"))
    assert reweighted.weighted_columns == OBJECTIVE.weighted_columns
    assert abs(reweighted.weights_Q[1] / reweighted.weights_Q[0]) < 0.01
    assert SignalToNoise.measure(make_trials(rows), reweighted).list_below(2.0) == ("noisy.bpb",)


def test_down_weighting_is_an_error_if_no_metric_varies_over_the_mixtures():
    one = make_trials([make_row(0.5, 1.0, 1.0), make_row(0.5, 1.1, 0.9, seed=1)])
    with pytest.raises(SearchError, match="leaves no metric: none varies over the mixtures beyond"):
        reweight_objective(OBJECTIVE, one, load_settings(down_weight="true"))


def test_later_rounds_do_not_change_the_weights():
    first = make_rows(n_mixtures=20)
    later = make_rows(n_mixtures=20, ratio=(1.0, 400.0), noise=(5.0, 0.01), round_=1)
    cfg = load_settings(scale="noise", down_weight="true")
    before, after = (
        reweight_objective(OBJECTIVE, make_trials(rows), cfg) for rows in (first, first + later)
    )
    np.testing.assert_array_equal(before.weights_Q, after.weights_Q)

"""Errors that depend on the mixture are found, and only those."""

import dataclasses
import json

import numpy as np
import pytest

from climb.config import load
from climb.objective import Objective
from climb.predictor.stack import StackPredictor
from climb.runs.commands import recommend
from climb.runs.output import write_numbers, write_rows
from climb.runs.sets import RunFiles
from climb.search.calibration import CalibratedScore
from climb.search.recommendation import predict_gain
from climb.search.spread import MIN_MIXTURES, Errors, Spread
from climb.search.surrogate import Surrogate
from climb.search.trials import Trials

K = 6


def draw_mixtures(random, n):
    return random.dirichlet(np.full(K, 0.7), size=n)


def true_std(weights_MK):
    """Five times as noisy (25 times the variance) from none to 60 % of the first domain."""
    return 0.01 * np.exp(np.log(5.0) * np.minimum(weights_MK[:, 0] / 0.6, 1.0))


def no_replicates(squared_D):
    return Errors(squared_D, np.zeros(len(squared_D)), np.zeros(len(squared_D)))


def make_trials(random, std_at, n=96, seeds=1):
    weights_DK = draw_mixtures(random, n)
    rows = [
        {
            "round": 0,
            "method": "proposal",
            "seed": seed,
            "weights": {f"d{k}": float(w) for k, w in enumerate(weights_K)},
            "metrics": {"loss": 3.0 - weights_K[1] + weights_K[2] ** 2 + std * random.normal()},
        }
        for weights_K, std in zip(weights_DK, std_at(weights_DK), strict=True)
        for seed in range(seeds)
    ]
    return Trials.from_rows(rows, [f"d{k}" for k in range(K)], ["loss"])


def calibrate(trials):
    objective = Objective.parse("mean(*):min", ("loss",))
    surrogate = Surrogate.fit(trials, objective, StackPredictor())
    held_out = surrogate.predict_held_out(StackPredictor(), 0)
    return surrogate, CalibratedScore.fit(surrogate, held_out, objective, trials)


def test_a_domain_that_makes_runs_noisier_is_found_in_residuals():
    random = np.random.default_rng(0)
    weights_DK = draw_mixtures(random, 128)
    errors_D = true_std(weights_DK) * random.normal(size=128) / 0.02
    spread = Spread.fit(weights_DK, no_replicates(errors_D**2))
    assert spread is not None
    assert spread.slope_K.argmax() == 0
    unseen_MK = draw_mixtures(random, 500)
    order = [np.argsort(np.argsort(x)) for x in (spread.factor_at(unseen_MK), true_std(unseen_MK))]
    assert np.corrcoef(order)[0, 1] > 0.85
    assert spread.ratio == pytest.approx(5.0, rel=0.4)
    found_M = 0.02 * spread.factor_at(unseen_MK) / true_std(unseen_MK)
    assert np.median(found_M) == pytest.approx(1.0, abs=0.2)


def test_the_level_is_right_where_one_domain_has_most_of_the_weight():
    random = np.random.default_rng(0)
    weights_DK = random.dirichlet(np.array([4.0, 0.5, 0.5, 0.5, 0.5, 0.5]), size=256)
    std_D = np.exp(3.0 * weights_DK[:, 0])
    spread = Spread.fit(weights_DK, no_replicates((std_D * random.normal(size=256)) ** 2))
    assert np.median(spread.factor_at(weights_DK) / std_D) == pytest.approx(1.0, abs=0.2)


def test_it_is_found_in_replicates():
    random = np.random.default_rng(1)
    weights_DK = draw_mixtures(random, 40)
    degrees_D = np.full(40, 3.0)
    variance_D = true_std(weights_DK) ** 2 * random.chisquare(3.0, size=40) / 3.0
    errors = Errors(np.ones(40), variance_D / variance_D.mean(), degrees_D)
    spread = Spread.fit(weights_DK, errors)
    assert spread is not None
    assert spread.slope_K.argmax() == 0
    alone = Errors(np.ones(40), np.zeros(40), np.zeros(40))
    assert Spread.fit(weights_DK, alone) is None


@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "Student t"])
def test_constant_noise_rarely_looks_as_if_it_depended_on_the_mixture(heavy):
    random = np.random.default_rng(2)
    found = 0
    for _ in range(100):
        errors_D = random.standard_t(3.0, size=64) if heavy else random.normal(size=64)
        found += Spread.fit(draw_mixtures(random, 64), no_replicates(errors_D**2)) is not None
    assert found <= 4  # 1 is expected; 5 or more have a probability of 0.4 %


def test_the_factor_stays_within_the_range_of_the_trials():
    random = np.random.default_rng(0)
    weights_DK = draw_mixtures(random, 128)
    spread = Spread.fit(weights_DK, no_replicates(true_std(weights_DK) ** 2 * 2500.0))
    low, high = np.exp(spread.log_range)
    assert low <= spread.factor_at(np.eye(K)).min()
    assert spread.factor_at(np.eye(K)).max() <= high
    assert spread.factor_at(weights_DK).max() == pytest.approx(high)


def test_too_few_mixtures_show_nothing():
    random = np.random.default_rng(3)
    weights_DK = draw_mixtures(random, MIN_MIXTURES - 1)
    assert Spread.fit(weights_DK, no_replicates(100.0 * weights_DK[:, 0] ** 4)) is None


def test_intervals_of_noisy_mixtures_become_wider_and_those_of_quiet_ones_narrower():
    random = np.random.default_rng(4)
    trials = make_trials(random, true_std, n=192)
    surrogate, score = calibrate(trials)
    assert score.calibration.spread is not None
    unseen_MK = draw_mixtures(random, 2000)
    mean_M, std_M = score.predict_new_run(unseen_MK, *surrogate.predict_metrics(unseen_MK))
    true_M = 3.0 - unseen_MK[:, 1] + unseen_MK[:, 2] ** 2
    error_M = -true_M + true_std(unseen_MK) * random.normal(size=2000) - mean_M
    inside_M = np.abs(error_M) <= 1.645 * std_M
    noisy_M, quiet_M = unseen_MK[:, 0] > 0.5, unseen_MK[:, 0] < 0.02
    with_spread = inside_M[noisy_M].mean(), inside_M[quiet_M].mean()
    plain_M = std_M / score.calibration.spread_at(unseen_MK)
    plain = [(np.abs(error_M) <= 1.645 * plain_M)[m].mean() for m in (noisy_M, quiet_M)]
    assert plain[0] < 0.75, "one noise for all covers too few of the noisy ones"
    assert plain[1] > 0.96, "and too many of the quiet ones"
    assert 0.8 < with_spread[0] < 0.97
    assert 0.8 < with_spread[1] < 0.97


def test_the_factor_widens_scores_and_gains():
    trials = make_trials(np.random.default_rng(5), true_std, n=48, seeds=3)
    surrogate, score = calibrate(trials)
    # The error of the slope belongs to the search, not to a mixture.
    found = dataclasses.replace(score.calibration, slope_std=0.0)
    plain = dataclasses.replace(found, spread=None)
    noisy_2K = np.array([[0.9, 0.1, 0.0, 0.0, 0.0, 0.0], [0.9, 0.0, 0.1, 0.0, 0.0, 0.0]])
    factor = np.exp(found.spread.log_range[1])
    assert factor > 1.3
    np.testing.assert_allclose(found.spread_at(noisy_2K), factor)
    prediction = surrogate.predict_score(noisy_2K)
    wider = found.apply(noisy_2K, *prediction)[1] / plain.apply(noisy_2K, *prediction)[1]
    np.testing.assert_allclose(wider, factor)
    gains = [predict_gain(surrogate, c, trials, noisy_2K) for c in (found, plain)]
    widths = [gain.high - gain.low for gain in gains]
    assert widths[0] / widths[1] == pytest.approx(factor)


def test_variances_of_replicates_are_relative_to_the_pooled_one(monkeypatch):
    found = []
    monkeypatch.setattr(Spread, "fit", lambda weights_DK, errors: found.append(errors))
    calibrate(make_trials(np.random.default_rng(6), true_std, n=24, seeds=4))
    [errors] = found
    np.testing.assert_array_equal(errors.degrees_D, 3.0)
    assert np.average(errors.ratio_D, weights=errors.degrees_D) == pytest.approx(1.0)


def test_replicates_of_a_few_mixtures_and_residuals_are_used_together():
    random = np.random.default_rng(5)
    trials = make_trials(random, true_std, n=48, seeds=3)
    _, score = calibrate(trials)
    assert score.calibration.spread is not None
    assert score.calibration.spread.slope_K.argmax() == 0
    assert score.noise > 0.0


def test_the_record_and_the_advice_say_how_much_errors_differ(tmp_path):
    trials = make_trials(np.random.default_rng(4), true_std, n=192)
    header = [*(f"weight.{domain}" for domain in trials.domains), "metric.loss"]
    rows = np.hstack([trials.weights_TK, trials.metrics_TQ])
    runs, prior, out = (tmp_path / name for name in ("runs.csv", "prior.csv", "out.csv"))
    write_numbers(runs, header, rows)
    write_rows(prior, ["domain", "tokens"], [[domain, 10**9] for domain in trials.domains])
    settings = ["search.candidates=200", "search.target_tokens=1000000000"]
    advice = recommend(RunFiles((runs,)), prior, out, load(settings=settings).search, "mean(*):min")
    spread = json.loads(out.with_suffix(".json").read_text())["result"]["calibration"]["spread"]
    assert 2.0 < spread < 10.0
    assert f"standard deviation of this error varies by a factor of {spread:.2g}" in advice

"""Which metrics tell mixtures apart, and what the objective makes of it."""

import numpy as np
import pytest

from climb.config import load
from climb.errors import SearchError
from climb.objective import Objective
from climb.search import Trials
from climb.search.signal import Signal, weighed

NAMES = ("clear.bpb", "noisy.bpb", "unused")
OBJECTIVE = Objective.parse("clear.bpb:min + 3*noisy.bpb:min", NAMES)


def settings(**changes):
    return load(settings=[f"search.{key}={value}" for key, value in changes.items()]).search


def row(t, clear, noisy, seed=0, round_=0):
    return {
        "round": round_,
        "method": "proposal",
        "seed": seed,
        "weights": {"a": t, "b": 1.0 - t},
        "metrics": {"clear.bpb": clear, "noisy.bpb": noisy, "unused": 1.0},
    }


def told(rows):
    return Trials.from_rows(rows, ("a", "b"), NAMES)


def repeated(n_mixtures=300, n_seeds=3, ratio=(25.0, 0.5), noise=(0.02, 0.4), round_=0):
    """Mixtures whose metrics have a planted variance over mixtures, and one over seeds."""
    random = np.random.default_rng(0)
    rows = []
    for t in np.linspace(0.0, 1.0, n_mixtures):
        level_2 = random.normal(size=2) * np.sqrt(ratio) * noise
        for seed in range(n_seeds):
            rows.append(row(t, *(level_2 + noise * random.normal(size=2)), seed, round_))
    return rows


def test_a_planted_ratio_of_variances_is_recovered():
    signal = Signal.of(told(repeated()), OBJECTIVE)
    assert signal.metric_names == ("clear.bpb", "noisy.bpb")
    # A variance of 300 mixtures is known to 8 %, that of 600 further seeds to 6 %: three of both.
    np.testing.assert_allclose(signal.ratio_Q, [25.0, 0.5], rtol=0.3)
    np.testing.assert_allclose(signal.noise_Q, [0.02, 0.4], rtol=0.1)


def test_seeds_alone_are_no_signal_however_few_there_are():
    signal = Signal.of(told(repeated(ratio=(0.0, 0.0), n_seeds=2)), OBJECTIVE)
    # Means of two seeds vary half as much as seeds do; that part is taken out.
    assert (signal.ratio_Q < 0.15).all()


def test_without_repeats_the_ratio_is_unknown_and_without_noise_it_is_infinite():
    once = Signal.of(told(repeated(n_seeds=1)), OBJECTIVE)
    assert np.isnan(once.ratio_Q).all()
    assert once.below(2.0) == ()
    still = Signal.of(told(repeated(noise=(0.02, 0.0))), OBJECTIVE)
    assert np.isinf(still.ratio_Q[1])
    assert still.below(2.0) == ()
    one = Signal.of(told([row(0.5, 1.0, 1.0), row(0.5, 1.1, 0.9, seed=1)]), OBJECTIVE)
    np.testing.assert_array_equal(one.ratio_Q, 0.0)


def test_metrics_under_the_least_signal_are_named():
    signal = Signal.of(told(repeated()), OBJECTIVE)
    assert signal.below(2.0) == ("noisy.bpb",)
    assert signal.below(0.1) == ()
    assert signal.below(100.0) == ("clear.bpb", "noisy.bpb")


def test_scaled_by_noise_a_metric_weighs_the_less_the_more_seeds_move_it():
    trials = told(repeated())
    there = weighed(OBJECTIVE, trials, settings(scale="noise"))
    noise_Q = Signal.of(trials, OBJECTIVE).noise_Q
    np.testing.assert_allclose(there.weights_Q[:2], [-1.0 / noise_Q[0], -3.0 / noise_Q[1]])
    assert there.weights_Q[2] == 0.0
    assert there.metric_names == OBJECTIVE.metric_names


def test_scaling_needs_repeats_and_noise_and_says_so():
    once, still = told(repeated(n_seeds=1)), told(repeated(noise=(0.02, 0.0)))
    with pytest.raises(SearchError, match=r"that of 'clear.bpb' is nan: run mixtures with several"):
        weighed(OBJECTIVE, once, settings(scale="noise"))
    with pytest.raises(SearchError, match=r"that of 'noisy.bpb' is 0.0"):
        weighed(OBJECTIVE, still, settings(scale="noise"))
    with pytest.raises(SearchError, match=r"down_weight True need the noise"):
        weighed(OBJECTIVE, once, settings(down_weight="true"))


def test_as_configured_by_default_the_objective_stays_what_somebody_asked_for():
    once = told(repeated(n_seeds=1))
    assert weighed(OBJECTIVE, once, settings()) is OBJECTIVE


def test_down_weighting_leaves_clear_metrics_and_takes_from_noisy_ones_what_seeds_make_of_them():
    trials = told(repeated())
    ratio = Signal.of(trials, OBJECTIVE).ratio_Q[1]
    there = weighed(OBJECTIVE, trials, settings(down_weight="true", min_signal=2.0))
    np.testing.assert_allclose(there.weights_Q, [-1.0, -3.0 * ratio / (1.0 + ratio), 0.0])
    lax = weighed(OBJECTIVE, trials, settings(down_weight="true", min_signal=0.1))
    np.testing.assert_array_equal(lax.weights_Q, OBJECTIVE.weights_Q)
    both = weighed(OBJECTIVE, trials, settings(down_weight="true", scale="noise"))
    scaled = weighed(OBJECTIVE, trials, settings(scale="noise"))
    np.testing.assert_allclose(both.weights_Q[1], scaled.weights_Q[1] * ratio / (1.0 + ratio))


def test_a_metric_without_noise_is_not_down_weighted():
    still = told(repeated(noise=(0.02, 0.0)))
    there = weighed(OBJECTIVE, still, settings(down_weight="true"))
    np.testing.assert_array_equal(there.weights_Q, OBJECTIVE.weights_Q)


def test_a_metric_that_is_nothing_but_noise_is_still_named_and_guarded():
    rows = [row(p, p, float(s), seed=s) for p in (0.2, 0.5, 0.8) for s in range(2)]
    for r in rows:  # seeds move the clear one a little
        r["metrics"]["clear.bpb"] += 0.01 * r["seed"]
    there = weighed(OBJECTIVE, told(rows), settings(down_weight="true"))
    assert there.used == OBJECTIVE.used
    assert abs(there.weights_Q[1] / there.weights_Q[0]) < 0.01
    assert Signal.of(told(rows), there).below(2.0) == ("noisy.bpb",)


def test_metrics_that_no_mixture_moves_leave_nothing_to_search_for():
    one = told([row(0.5, 1.0, 1.0), row(0.5, 1.1, 0.9, seed=1)])
    with pytest.raises(SearchError, match="left no metric: none varies over the mixtures"):
        weighed(OBJECTIVE, one, settings(down_weight="true"))


def test_later_rounds_do_not_change_what_the_score_means():
    first = repeated(n_mixtures=20)
    later = repeated(n_mixtures=20, ratio=(1.0, 400.0), noise=(5.0, 0.01), round_=1)
    cfg = settings(scale="noise", down_weight="true")
    before, after = (weighed(OBJECTIVE, told(rows), cfg) for rows in (first, first + later))
    np.testing.assert_array_equal(before.weights_Q, after.weights_Q)

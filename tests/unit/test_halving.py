"""Successive halving: who goes on, what it costs, and what stopped trials would measure."""

import dataclasses

import numpy as np
import pytest

from climb.config import load
from climb.errors import ConfigError, SearchError
from climb.objective import Objective
from climb.predictor.gp import GPPredictor
from climb.search import Surrogate, Trials
from climb.search.halving import (
    count_full_trials,
    find_stopped,
    predict_final_metrics,
    select_survivors,
)
from climb.search.trials import STD_PER_TV_DISTANCE

SCORES = {"a": 1.0, "b": 3.0, "c": 2.0, "d": 3.0, "e": 0.5}


@pytest.mark.parametrize(
    ("keep", "survivors"),
    [(0.2, "b"), (0.21, "bd"), (0.4, "bd"), (0.5, "bcd"), (0.6, "bcd"), (0.99, "abcde")],
)
def test_the_best_go_on_rounded_up_and_ties_are_broken_by_trial_id(keep, survivors):
    assert select_survivors(SCORES, keep) == set(survivors)
    assert select_survivors(dict(reversed(SCORES.items())), keep) == set(survivors)


def test_one_trial_always_goes_on_and_nobody_if_nobody_was_measured():
    assert select_survivors(SCORES, 1e-9) == {"b"}
    assert select_survivors({}, 0.5) == frozenset()


def test_a_trial_that_failed_never_goes_on_and_is_not_counted_in_the_share():
    reached = []

    def score(rung, active):
        reached.append(set(active))
        measured = {name: SCORES[name] for name in active if name != "b"}
        return measured if rung == 0 else {name: -value for name, value in measured.items()}

    # Of a, c, d and e, two go on; the second rung has the opposite order.
    stopped = find_stopped("abcde", [0.5, 0.5], score)
    assert stopped == {"a": 0, "e": 0, "d": 1}
    assert reached == [set("abcde"), set("cd")]


def test_tokens_of_a_round_are_those_of_all_trials_up_to_their_rungs():
    assert count_full_trials(32, []) == 32
    assert count_full_trials(32, [(0.25, 0.5)]) == 16 + 16 * 0.25
    assert count_full_trials(10, [(0.25, 0.35), (0.5, 0.5)]) == pytest.approx(
        6 * 0.25 + 2 * 0.5 + 2 * 1.0
    )


def make_trials(metrics_TQ, seed=0):
    metrics_TQ = np.asarray(metrics_TQ, dtype=np.float64)
    n = len(metrics_TQ)
    weights_TK = np.random.default_rng(seed).dirichlet(np.ones(3), size=n)
    zeros = np.zeros(n, dtype=np.int64)
    names = tuple(f"m{q}" for q in range(metrics_TQ.shape[1]))
    return Trials(
        tuple("xyz"), weights_TK, names, metrics_TQ, zeros, ("proposal",) * n, zeros, np.zeros(n)
    )


def test_partial_metrics_on_a_line_with_final_ones_are_converted_exactly():
    random = np.random.default_rng(1)
    partial_PQ, new_TQ = random.normal(size=(9, 2)), random.normal(size=(4, 2)) + 3.0

    def end(metrics):
        return metrics * [0.5, 2.0] + [1.0, -3.0]

    found = predict_final_metrics(
        make_trials(new_TQ, 2), make_trials(partial_PQ), make_trials(end(partial_PQ)), (0, 1)
    )
    np.testing.assert_allclose(found.metrics_TQ, end(new_TQ))
    assert found.tv_distance_T.max() < 1e-6
    np.testing.assert_array_equal(found.weights_TK, make_trials(new_TQ, 2).weights_TK)


def test_with_few_pairs_only_the_level_is_shifted_and_one_pair_gives_no_precision():
    partial, final = make_trials([[1.0], [2.0]]), make_trials([[2.0], [5.0]])
    new = make_trials([[4.0]], 2)
    assert predict_final_metrics(new, partial, final, (0,)).metrics_TQ == pytest.approx(6.0)
    one = [0]
    found = predict_final_metrics(
        new, partial.select([True, False]), final.select([True, False]), one
    )
    assert found.metrics_TQ == pytest.approx(5.0)
    assert found.tv_distance_T == pytest.approx(1.0 / STD_PER_TV_DISTANCE)


def test_the_stated_error_is_that_of_the_conversion_and_ignores_unused_metrics():
    random = np.random.default_rng(3)
    truth_T = random.normal(size=400)
    partial_TQ = np.stack([truth_T, random.normal(size=400)], axis=1)
    final_TQ = np.stack([truth_T + 0.3 * random.normal(size=400), truth_T], axis=1)
    ok = slice(0, 100)
    found = predict_final_metrics(
        make_trials(partial_TQ[100:]), make_trials(partial_TQ[ok]), make_trials(final_TQ[ok]), (0,)
    )
    error = np.std(found.metrics_TQ[:, 0] - final_TQ[100:, 0])
    stated_T = STD_PER_TV_DISTANCE * found.tv_distance_T * np.std(final_TQ[:, 0])
    assert stated_T.mean() == pytest.approx(error, rel=0.15)
    # A metric without any relation to its partial one tells nothing: all predictions are near 0.
    assert np.std(found.metrics_TQ[:, 1]) < 0.3


def test_stopped_trials_improve_the_predictor():
    random = np.random.default_rng(4)
    weights_TK = random.dirichlet(np.full(3, 0.7), size=60)
    final_T = np.square(weights_TK - [0.6, 0.3, 0.1]).sum(axis=1)
    partial_T = 2.0 + 0.6 * final_T + 0.01 * random.normal(size=60)
    whole = make_trials(final_T[:8, None])
    whole = dataclasses.replace(whole, weights_TK=weights_TK[:8])
    at_rung = dataclasses.replace(make_trials(partial_T[8:30, None]), weights_TK=weights_TK[8:30])
    partial = dataclasses.replace(whole, metrics_TQ=partial_T[:8, None])
    added = whole.concatenate([predict_final_metrics(at_rung, partial, whole, (0,))])
    objective = Objective.parse("m0:min", ("m0",))
    errors = [
        np.std(
            Surrogate.fit(t, objective, GPPredictor()).predict_mean(weights_TK[30:]) + final_T[30:]
        )
        for t in (whole, added)
    ]
    assert errors[1] < 0.6 * errors[0]


def test_without_any_trial_that_went_on_the_error_names_the_setting():
    none = make_trials(np.empty((0, 1)))
    with pytest.raises(SearchError, match=r"2 trials were stopped.*raise `keep` in search.halving"):
        predict_final_metrics(make_trials([[1.0], [2.0]]), none, none, (0,))


@pytest.mark.parametrize(
    ("rungs", "message"),
    [
        ("[{share: 0.5, keep: 0.5}, {share: 0.25, keep: 0.5}]", "each share must be larger"),
        ("[{share: 1.0, keep: 0.5}]", "less than 1"),
        ("[{share: 0.5, keep: 0}]", "greater than 0"),
    ],
)
def test_rungs_that_are_no_prefixes_of_a_run_are_refused(rungs, message):
    with pytest.raises(ConfigError, match=message):
        load(settings=[f"search.halving={rungs}"])

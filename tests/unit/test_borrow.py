"""Runs of other sets: used if they help to predict own runs, and not if they mislead."""

import dataclasses
from functools import cache

import numpy as np
import pytest

from climb.config import load
from climb.errors import InputError, SearchError
from climb.objective import Objective
from climb.predictor.pooled import PooledPredictor
from climb.runs.commands import predict
from climb.runs.sets import RunFiles, read_run_sets
from climb.search import Surrogate
from climb.search.borrow import BorrowedSet, borrow, match_domains
from climb.search.trials import STD_PER_TV_DISTANCE
from climb.testing.world import PlantedWorld

WORLD = PlantedWorld.build(8, 3, noise=0.2, seed=1)
OBJECTIVE = Objective.parse("mean(*):min", WORLD.metric_names)
PREDICTOR = PooledPredictor()
DRAW = {"concentration": (0.1, 5.0), "temperature": 0.5}


def draw_trials(n, seed):
    mixtures_TK = WORLD.space.sample(np.random.default_rng(seed), n, **DRAW)
    return WORLD.make_trials([WORLD.make_row(w_K, 0, "proposal", seed) for w_K in mixtures_TK])


OWN, OTHER = draw_trials(20, 1), draw_trials(60, 2)
UNSEEN_MK = WORLD.space.sample(np.random.default_rng(9), 300, **DRAW)


def measure_error(trials):
    """Error of the score of unseen mixtures, in its standard deviations."""
    predicted_M = Surrogate.fit(trials, OBJECTIVE, PREDICTOR).predict_mean(UNSEEN_MK)
    true_M = OBJECTIVE.score(WORLD.compute_losses(UNSEEN_MK))
    return float(np.sqrt(np.mean((predicted_M - true_M) ** 2)) / true_M.std())


@cache
def borrow_shifted():
    """The other runs have another level in every metric, as another model has."""
    shifted = dataclasses.replace(OTHER, metrics_TQ=OTHER.metrics_TQ + np.array([1.0, -2.0, 3.0]))
    return borrow(OWN, [match_domains(OWN, shifted, "other", 0.5)], OBJECTIVE, PREDICTOR, 0)


def test_a_set_with_another_level_helps():
    combined, [borrowed] = borrow_shifted()
    assert borrowed.n_runs == 60
    assert borrowed.noise is not None
    assert borrowed.error_change < -0.2
    assert len(combined) == 80
    assert measure_error(combined) < 0.8 * measure_error(OWN)


def test_the_stated_noise_is_that_of_the_borrowed_runs():
    combined, [borrowed] = borrow_shifted()
    is_borrowed_T = np.array(combined.methods_T) == "reused"
    np.testing.assert_allclose(
        combined.tv_distance_T[is_borrowed_T] * STD_PER_TV_DISTANCE, borrowed.noise
    )
    assert (combined.tv_distance_T[~is_borrowed_T] == 0.0).all()


def test_replicates_of_another_set_do_not_set_the_noise_of_the_own_runs():
    rng = np.random.default_rng(0)
    noisy = OTHER.concatenate([OTHER])
    noisy = dataclasses.replace(
        noisy, metrics_TQ=noisy.metrics_TQ + rng.normal(0.0, 0.3, noisy.metrics_TQ.shape)
    )
    own = OWN.concatenate([draw_trials(20, 1).select(np.arange(20) < 5)])
    own = dataclasses.replace(
        own, metrics_TQ=own.metrics_TQ + rng.normal(0.0, 0.001, own.metrics_TQ.shape)
    )
    other = match_domains(own, noisy, "other", 0.5)
    combined, [borrowed] = borrow(own, [other], OBJECTIVE, PREDICTOR, 0)
    assert borrowed.noise is not None
    assert borrowed.n_runs == 120
    found, alone = combined.group_replicates().noise_Q, own.group_replicates().noise_Q
    np.testing.assert_allclose(found, alone)


def test_the_order_of_domains_changes_neither_the_choice_nor_the_runs():
    order_K = np.random.default_rng(3).permutation(len(OWN.domains))
    combined, [borrowed] = borrow_shifted()
    shifted = dataclasses.replace(OTHER, metrics_TQ=OTHER.metrics_TQ + np.array([1.0, -2.0, 3.0]))
    own, other = OWN.reorder_domains(order_K), shifted.reorder_domains(order_K[::-1])
    again, [also] = borrow(own, [match_domains(own, other, "other", 0.5)], OBJECTIVE, PREDICTOR, 0)
    assert (also.noise, also.error_change) == (borrowed.noise, borrowed.error_change)
    back = again.reorder_domains(np.argsort(order_K))
    np.testing.assert_array_equal(back.weights_TK, combined.weights_TK)
    np.testing.assert_array_equal(back.metrics_TQ, combined.metrics_TQ)


def test_a_set_without_a_usable_run_is_not_tested():
    found = str(BorrowedSet("far.csv", 0, 12, None, 0.0))
    assert found == "far.csv: 0 runs (12 more dropped: too much weight on other domains), not used"


def test_a_set_that_misleads_gets_no_weight():
    """The metrics of the other set belong to other mixtures."""
    permuted_TQ = OTHER.metrics_TQ[np.random.default_rng(0).permutation(60)]
    wrong = dataclasses.replace(OTHER, metrics_TQ=permuted_TQ)
    combined, [borrowed] = borrow(
        OWN, [match_domains(OWN, wrong, "wrong", 0.5)], OBJECTIVE, PREDICTOR, 0
    )
    assert borrowed.noise is None
    assert "not used" in str(borrowed)
    assert combined is OWN


@pytest.mark.slow
def round_weights(trials, decimals):
    rounded_TK = trials.weights_TK.round(decimals)
    return dataclasses.replace(
        trials, weights_TK=rounded_TK / rounded_TK.sum(axis=1, keepdims=True)
    )


def test_a_copy_of_the_own_runs_with_rounded_weights_does_not_help_to_predict_noise():
    noise_TQ = np.random.default_rng(4).normal(3.0, 0.1, OWN.metrics_TQ.shape)
    own = dataclasses.replace(OWN, metrics_TQ=noise_TQ)
    copy = match_domains(own, round_weights(own, 4), "copy", 0.5)
    combined, [borrowed] = borrow(own, [copy], OBJECTIVE, PREDICTOR, 0)
    assert borrowed.noise is None
    assert len(combined) == len(own)


class Recorder:
    """Records the mixtures of each fit."""

    def __init__(self):
        self.fits = []

    def fit(self, weights_TK, values_T, noise_T):
        self.fits.append(weights_TK)
        return lambda weights_MK: (np.zeros(len(weights_MK)), np.ones(len(weights_MK)))


def list_held_out_fits(trials):
    recorder = Recorder()
    one_metric = Objective.from_metric(OWN.metric_names[0], OWN.metric_names)
    surrogate = Surrogate.fit(trials, one_metric, recorder)
    surrogate.predict_held_out(recorder, 0)
    return recorder.fits[1:]


def test_runs_whose_weights_are_rounded_differently_are_held_out_together():
    trials = OWN.concatenate([round_weights(OWN, 4), round_weights(OWN, 5)])
    fits = list_held_out_fits(trials)
    assert len(fits) == 5
    for fitted_TK in fits:
        distance_TD = 0.5 * np.abs(trials.weights_TK[:, None] - fitted_TK).sum(axis=2)
        is_copied_T = distance_TD.min(axis=1) < 0.001
        assert is_copied_T.sum() == 48


def test_many_mixtures_that_are_close_together_are_held_out_in_folds_of_equal_size():
    weights_TK = np.zeros((2000, len(OWN.domains)))
    weights_TK[:, 0] = np.linspace(0.0, 1.0, len(weights_TK))
    weights_TK[:, 1] = 1.0 - weights_TK[:, 0]
    trials = WORLD.make_trials([WORLD.make_row(w_K, 0, "proposal", 0) for w_K in weights_TK])
    assert [len(fitted_TK) for fitted_TK in list_held_out_fits(trials)] == [1600] * 5


def test_a_misleading_set_does_not_stop_a_helpful_one():
    wrong = dataclasses.replace(OTHER, metrics_TQ=OTHER.metrics_TQ[::-1])
    sets = [match_domains(OWN, runs, name, 0.5) for runs, name in ((wrong, "a"), (OTHER, "b"))]
    combined, (first, second) = borrow(OWN, sets, OBJECTIVE, PREDICTOR, 0)
    assert (first.noise, second.noise is None) == (None, False)
    assert len(combined) == 80


def test_domains_are_matched_by_name_and_unknown_ones_count_as_distance():
    domains = tuple(reversed(OTHER.domains))
    renamed = ("unknown", *domains[1:])  # the last domain of the own runs has another name there
    other = dataclasses.replace(OTHER, domains=renamed, weights_TK=OTHER.weights_TK[:, ::-1])
    matched, borrowed = match_domains(OWN, other, "other", 0.5)
    kept_T = 1.0 - OTHER.weights_TK[:, -1]
    assert borrowed.n_dropped == int((kept_T < 0.5).sum()) > 0
    keep_T = kept_T >= 0.5
    np.testing.assert_allclose(matched.tv_distance_T, 1.0 - kept_T[keep_T], atol=1e-12)
    expected_TK = OTHER.weights_TK[keep_T].copy()
    expected_TK[:, -1] = 0.0
    np.testing.assert_allclose(matched.weights_TK, expected_TK / kept_T[keep_T, None], atol=1e-12)


def test_a_domain_that_the_other_set_lacks_has_weight_zero():
    part = OTHER.weights_TK[:, 1:]
    other = dataclasses.replace(
        OTHER, domains=OTHER.domains[1:], weights_TK=part / part.sum(axis=1, keepdims=True)
    )
    matched, _ = match_domains(OWN, other, "other", 0.5)
    assert matched.domains == OWN.domains
    assert (matched.weights_TK[:, 0] == 0.0).all()
    assert (matched.tv_distance_T < 1e-12).all()


def test_sets_without_a_common_domain_or_metric_and_too_few_own_runs_are_refused():
    renamed = dataclasses.replace(OTHER, metric_names=("x", "task1.bpb", "task2.bpb"))
    with pytest.raises(SearchError, match=r"^other: its runs lack metric 'task0\.bpb'"):
        match_domains(OWN, renamed, "other", 0.5)
    strange = dataclasses.replace(OTHER, domains=tuple("abcdefgh"))
    with pytest.raises(SearchError, match=r"^other: its runs have no domain of your runs, "):
        match_domains(OWN, strange, "other", 0.5)
    few = OWN.select(np.arange(len(OWN)) < 3)
    matched = match_domains(few, OTHER, "other", 0.5)
    sizes = few.concatenate([dataclasses.replace(few, scale_distance_T=np.full(3, 1e-3))])
    for own in (few, sizes):  # three mixtures, of one size and of two
        with pytest.raises(SearchError, match="have 3 distinct mixtures, but a test of other sets"):
            borrow(own, [matched], OBJECTIVE, PREDICTOR, 0)


CFG = load(settings=["search.predictor={use: climb.predictor.pooled:PooledPredictor}"]).search


def write(path, trials, tokens_T=None):
    header = [f"weight.{d}" for d in trials.domains] + [f"metric.{m}" for m in trials.metric_names]
    columns = [trials.weights_TK, trials.metrics_TQ]
    if tokens_T is not None:
        header, columns = [*header, "tokens"], [*columns, tokens_T[:, None]]
    rows = np.hstack(columns)
    lines = [",".join(header), *(",".join(map(repr, row)) for row in rows.tolist())]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_commands_take_other_runs_and_say_what_they_did_with_them(tmp_path):
    files = [write(tmp_path / "own.csv", OWN), write(tmp_path / "others.csv", OTHER)]
    mixtures = write(
        tmp_path / "mixtures.csv",
        dataclasses.replace(OTHER, metric_names=(), metrics_TQ=OTHER.metrics_TQ[:, :0]),
    )
    said = predict(RunFiles(files), mixtures, tmp_path / "out.csv", CFG, "mean(*):min")
    assert "others.csv: 60 runs, used with a noise of " in said


def test_other_runs_are_an_error_if_the_configuration_excludes_them(tmp_path):
    files = [write(tmp_path / "own.csv", OWN), write(tmp_path / "others.csv", OTHER)]
    cfg = CFG.model_copy(update={"reuse_min_kept": None})
    with pytest.raises(InputError, match=r"--runs names 2 files, but search\.reuse_min_kept is"):
        read_run_sets(RunFiles(files), "mean(*):min", cfg)


def test_own_runs_of_several_token_counts_judge_another_set(tmp_path):
    tokens_T = np.where(np.arange(len(OWN)) < 17, 1e10, 1.3e10)
    own = write(tmp_path / "own.csv", OWN, tokens_T)
    other = write(tmp_path / "others.csv", OTHER, np.full(len(OTHER), 1e10))
    cfg = load(settings=["search.predictor.use=climb.predictor.gp:GPPredictor"]).search
    sets = read_run_sets(RunFiles([own, other]), "mean(*):min", cfg)
    assert "others.csv: 60 runs, used with a noise of " in sets.note
    assert len(sets.trials) == len(OWN) + len(OTHER)


def test_how_often_other_runs_repeated_a_domain_is_unknown():
    """They drew from other text, so their tokens say nothing about epochs of the own domains."""
    own, other = (
        dataclasses.replace(trials, tokens_T=np.full(len(trials), 1e9)) for trials in (OWN, OTHER)
    )
    matched, _ = match_domains(own, other, "other", 0.5)
    tokens_T = own.concatenate([matched]).list_tokens()
    assert np.isnan(tokens_T).sum() == len(matched)
    assert (tokens_T == 1e9).sum() == len(own)

"""What a further round is worth before it is trained, and when the search stops for it."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from climb.config import load
from climb.limits import Limits
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.predictor.gp import GPPredictor
from climb.search import Problem, Trials
from climb.search.calibration import Calibration, Inflation
from climb.search.further import further, learned, worth_of_round
from climb.search.height import fitted
from climb.search.peers import RandomSearcher
from climb.spark.search import worthwhile
from climb.testing.predictors import BowlPredictor
from climb.testing.world import PlantedWorld

DOMAINS = ("a", "b", "c")
SPACE = FeasibleSet.of(DOMAINS, np.ones(3), Limits(target_tokens=1.0, max_epochs=3.0))
OBJECTIVE = Objective.parse("x:max", ("x",))
CFG = load(settings=["search.trials_per_round=[10, 6, 4]", "search.candidates=400"]).search
BELIEVED = Calibration(
    centre=0.0, slope=1.0, slope_std=0.0, inflation=Inflation(level=1.0), rank=1.0
)


@dataclasses.dataclass(frozen=True)
class Plane:
    """What is known of a plane: slopes of 0, each to within `doubt`, and a trial's noise."""

    doubt: float
    noise: float
    slopes: tuple[float, ...] = (0.0, 0.0, 0.0)

    def fit(self, weights_TK, values_T, noise_T):
        return self

    def __call__(self, weights_MK):
        return self.mean(weights_MK), np.sqrt(np.diag(self.joint(weights_MK)[1]))

    def mean(self, weights_MK):
        return weights_MK @ np.array(self.slopes)

    def joint(self, weights_MK):
        return self.mean(weights_MK), self.doubt**2 * weights_MK @ weights_MK.T


def told(values_T, round_=0):
    weights_TK = np.random.default_rng(0).dirichlet(np.ones(3), size=len(values_T))
    rows = [
        {
            "round": round_,
            "method": "proposal",
            "seed": 0,
            "weights": dict(zip(DOMAINS, map(float, w_K), strict=True)),
            "metrics": {"x": float(value)},
        }
        for w_K, value in zip(weights_TK, values_T, strict=True)
    ]
    return Trials.from_rows(rows, DOMAINS, ("x",))


KNOWN = told(np.linspace(0.0, 1.0, 10))


def problem(predictor, space=SPACE, cfg=CFG):
    return Problem(space, OBJECTIVE, predictor, RandomSearcher(), cfg)


def worth(predictor, calibration=BELIEVED, **parts):
    there = problem(predictor, **parts)
    return further(KNOWN, fitted(KNOWN, there), calibration, there).worth


def test_what_is_learned_is_what_the_posterior_no_longer_doubts():
    plane = Plane(doubt=0.7, noise=0.2)
    random = np.random.default_rng(1)
    asked_NK, candidates_CK = random.dirichlet(np.ones(3), 5), random.dirichlet(np.ones(3), 8)
    surrogate = fitted(KNOWN, problem(plane)).surrogate
    root_CN = learned(surrogate, candidates_CK, asked_NK, Inflation(level=1.0))
    precision_KK = np.eye(3) / plane.doubt**2 + asked_NK.T @ asked_NK / plane.noise**2
    gone_KK = plane.doubt**2 * np.eye(3) - np.linalg.inv(precision_KK)
    np.testing.assert_allclose(
        root_CN @ root_CN.T, candidates_CK @ gone_KK @ candidates_CK.T, rtol=1e-6, atol=1e-9
    )


def test_noise_that_repeats_show_counts_before_what_the_fit_infers():
    twice = Trials.from_rows(
        [
            {
                "round": 0,
                "method": "proposal",
                "seed": seed,
                "weights": dict(zip(DOMAINS, w, strict=True)),
                "metrics": {"x": shift},
            }
            for w in ([0.2, 0.3, 0.5], [0.5, 0.3, 0.2], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1])
            for seed, shift in ((0, 3.0), (1, -3.0))
        ],
        DOMAINS,
        ("x",),
    )
    plane = Plane(doubt=1.0, noise=1e-6)
    asked_NK = candidates_CK = np.eye(3)
    quiet, noisy = (fitted(t, problem(plane)).surrogate for t in (KNOWN, twice))
    own = float(twice.repeats().noise_Q[0])
    for surrogate, noise, level in ((quiet, 0.0, 1.0), (noisy, own, 1.0), (noisy, own, 3.0)):
        root_CN = learned(surrogate, candidates_CK, asked_NK, Inflation(level=level))
        # Variance is inflated before it is shared with noise that is known as it is.
        gone = level**4 / (level**2 + noise**2)
        np.testing.assert_allclose(np.square(root_CN).sum(axis=1), gone, rtol=1e-6)


def test_metrics_are_learned_about_together():
    """Their errors are taken as one, as the score's spread takes them."""
    both = KNOWN.with_metrics(("x", "y"), np.zeros((len(KNOWN), 2)))
    plane = Plane(doubt=1.0, noise=0.1)
    roots = []
    for trials, text in ((KNOWN, "x:max"), (both, "x:max + y:max"), (both, "x:max + y:min")):
        objective = Objective.parse(text, trials.metric_names)
        there = dataclasses.replace(problem(plane), objective=objective)
        surrogate = fitted(trials, there).surrogate
        roots.append(learned(surrogate, np.eye(3), np.eye(3), Inflation(level=1.0)))
    np.testing.assert_allclose(roots[1], 2.0 * roots[0])
    np.testing.assert_allclose(np.abs(roots[2]), np.abs(roots[1]))


def test_a_round_is_worth_nothing_where_nothing_is_uncertain():
    assert worth(Plane(doubt=0.0, noise=0.1)) == pytest.approx(0.0, abs=1e-12)
    assert worth(Plane(doubt=0.0, noise=0.1, slopes=(1.0, 0.0, 0.0))) == pytest.approx(0.0)


def test_a_round_is_worth_something_where_much_is_and_never_more_than_knowing_all():
    found = worth(Plane(doubt=1.0, noise=0.1))
    # The best of three slopes, each with deviation 1, lies 0.846 above 0; 1024 outcomes know it
    # to 0.023.
    assert 0.2 < found < 0.846 + 3 * 0.023


def test_it_grows_with_the_doubt_and_falls_with_the_noise_of_a_trial():
    doubts = [worth(Plane(doubt=doubt, noise=0.1)) for doubt in (0.1, 0.3, 1.0)]
    assert doubts[0] < doubts[1] < doubts[2]
    noises = [worth(Plane(doubt=1.0, noise=noise)) for noise in (0.1, 1.0, 10.0, 1e4)]
    assert noises[0] > noises[1] > noises[2] > noises[3]
    assert noises[3] < 0.01


def test_an_answer_that_is_far_ahead_leaves_little_to_gain():
    near = worth(Plane(doubt=0.1, noise=0.01, slopes=(0.1, 0.0, 0.0)))
    ahead = worth(Plane(doubt=0.1, noise=0.01, slopes=(10.0, 0.0, 0.0)))
    assert ahead < 1e-6 < near


def test_spreads_count_as_far_as_held_out_trials_bear_them_out():
    plane = Plane(doubt=0.3, noise=0.01)
    wide = dataclasses.replace(BELIEVED, inflation=Inflation(level=3.0))
    assert worth(plane, wide) == pytest.approx(3.0 * worth(plane))
    # A slope of 0: what is predicted says nothing, and what is ahead may be anywhere.
    ahead = Plane(doubt=0.3, noise=0.01, slopes=(0.5, 0.0, 0.0))
    assert worth(ahead, dataclasses.replace(BELIEVED, slope=0.0)) > worth(ahead)


def test_predictors_that_know_no_covariance_cannot_say(capsys):
    assert worth(BowlPredictor(spread=1.0)) is None
    blind = study(0.5)
    blind.scored = lambda trials: dataclasses.replace(THERE, predictor=BowlPredictor())
    assert worthwhile(blind, 1, [])
    assert "stop_below 0.5: this predictor cannot say, so no round stops" in capsys.readouterr().out


def test_what_breaks_a_guard_is_no_answer_and_a_pull_counts_whole_however_bad_the_predictor():
    steep = Plane(doubt=0.3, noise=0.01, slopes=(0.05, 0.0, -0.05))
    unsure = dataclasses.replace(BELIEVED, slope=0.0)
    free = worth(steep, unsure)
    guarded = worth(steep, unsure, cfg=CFG.model_copy(update={"max_drop": 0.0}))
    assert 0.0 < guarded < free
    # Two metrics that want opposite things: all but level ground is worse for one of them.
    both = KNOWN.with_metrics(("x", "y"), np.zeros((len(KNOWN), 2)))
    torn = Objective.parse("x:max + 0.5*y:min", ("x", "y"))
    there = problem(steep, cfg=CFG.model_copy(update={"max_drop": 0.0}))
    there = dataclasses.replace(there, objective=torn)
    assert further(both, fitted(both, there), unsure, there).worth < 0.01 * free
    pulled = dataclasses.replace(SPACE, pull=100.0)
    assert worth(steep, unsure, space=pulled) < 0.01 * free


def test_a_set_that_holds_nothing_else_to_try_is_not_worth_a_round():
    fixed = FeasibleSet.of(DOMAINS, np.ones(3), Limits(target_tokens=3.0, max_epochs=1.0))
    assert worth(Plane(doubt=1.0, noise=0.1), space=fixed) == pytest.approx(0.0, abs=1e-12)


def test_the_round_that_is_judged_is_as_large_as_the_last():
    there = problem(Plane(doubt=1.0, noise=0.1))
    assert further(KNOWN, fitted(KNOWN, there), BELIEVED, there).n_trials == 4


WORLD = PlantedWorld.of(6, 2, noise=0.1, seed=0)
ROWS = [
    WORLD.trial(w_K, 0 if i < 10 else 1, "proposal", 0)
    for i, w_K in enumerate(
        WORLD.space.sample(np.random.default_rng(0), 60, concentration=(0.3, 5.0), temperature=0.5)
    )
]
THERE = Problem(WORLD.space, WORLD.objective, GPPredictor(), RandomSearcher(), CFG)


def test_in_a_planted_world_the_second_round_is_worth_more_than_one_after_sixty_trials():
    early = worth_of_round(WORLD.trials(ROWS), 1, THERE)
    late = worth_of_round(WORLD.trials(ROWS), 2, THERE)
    assert early > 0.0
    assert late < early / 2


def test_the_worth_of_a_round_depends_on_earlier_rounds_alone():
    alone = worth_of_round(WORLD.trials(ROWS[:10]), 1, THERE)
    answered = [*ROWS, WORLD.trial(WORLD.best_K, 0, "found", 0)]
    assert worth_of_round(WORLD.trials(answered), 1, THERE) == alone


def test_the_worth_is_the_same_in_another_order_of_domains():
    order = [3, 1, 5, 0, 2, 4]
    turned = dataclasses.replace(THERE, space=WORLD.space.reordered(order))
    trials = Trials.from_rows(ROWS, turned.space.domains, WORLD.metric_names)
    assert worth_of_round(trials, 1, turned) == worth_of_round(WORLD.trials(ROWS), 1, THERE)


def study(stop_below):
    """What the stop rule asks of a study: its settings, its trials and its problem."""
    cfg = CFG.model_copy(update={"stop_below": stop_below})
    return SimpleNamespace(
        cfg=SimpleNamespace(search=cfg),
        trials=lambda plan: WORLD.trials(ROWS),
        scored=lambda trials: dataclasses.replace(THERE, cfg=cfg),
    )


def test_a_round_that_is_worth_less_than_stop_below_is_left_out_and_the_reason_is_said(capsys):
    value = worth_of_round(WORLD.trials(ROWS), 1, THERE)
    assert worthwhile(study(0.99 * value), 1, [])
    assert capsys.readouterr().out == ""
    assert not worthwhile(study(1.01 * value), 1, [])
    said = capsys.readouterr().out
    assert f"round 2 is worth {value:.2g}, under stop_below {1.01 * value:g}: left out" in said


def test_without_stop_below_every_round_is_trained_and_none_is_judged():
    blind = study(None)
    blind.trials = None  # asking for trials would fail
    assert worthwhile(blind, 1, [])

"""The best mixture, how much better it is, and how sure that is.

Axes: T trials, D distinct mixtures, K domains, Q metrics of the objective, M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.search.calibration import Calibration, HeldOut, judge
from climb.search.compare import Gain
from climb.search.explain import Effects, effects
from climb.search.further import Further, further
from climb.search.height import fitted
from climb.search.rounds import kept_inside
from climb.search.searcher import Problem, ordered
from climb.search.signal import Signal
from climb.search.surrogate import Surrogate
from climb.search.trials import Trials

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Recommendation:
    """The answer of a search. Scores: higher is better; spreads are standard deviations."""

    domains: tuple[str, ...]
    weights_K: Array
    score_mean: float
    score_std: float
    natural_mean: float
    natural_std: float
    uniform_mean: float
    uniform_std: float
    gain: Gain
    """Over natural proportions, as one run of each would show it: prediction and seed noise."""

    gain_over_uniform: Gain
    metric_names: tuple[str, ...]
    """Metrics that the objective weighs."""

    noise_Q: Array
    """Standard deviation of each metric over seeds, pooled over repeats; NaN without repeats."""

    held_out: HeldOut
    """How predictions came true while mixtures were held out."""

    n_trials: int
    n_mixtures: int
    effects: Effects
    """What one percent more of each domain does, at the answer."""

    signal: Signal
    """How well each metric tells mixtures apart."""

    further: Further
    """What another round would be worth."""

    @property
    def quality(self) -> dict[str, float]:
        """Spearman correlation on held-out mixtures by metric, and of the score under `score`."""
        return self.held_out.quality

    @property
    def p_better(self) -> float:
        """Probability that the answer beats natural proportions."""
        return self.gain.p_better

    @property
    def verdict(self) -> str:
        """`gain` or `no gain found`, over natural proportions."""
        return self.gain.verdict


def recommend(trials: Trials, problem: Problem) -> Recommendation:
    """Ask the searcher for its answer, and judge it by what held-out trials say.

    A predicted gain counts only as far as predictions for held-out mixtures came true (see
    `_gain`). Trials of the answer itself are left out: measuring it must not change it.

    Raises:
        SearchError: fewer than 4 distinct mixtures.
        ComponentError: the searcher's answer is no mixture.
    """
    known, by_name, back_K = ordered(trials, problem)
    space, objective = by_name.space, by_name.wanted
    height = fitted(known, by_name)
    surrogate = height.surrogate
    best_K = kept_inside(by_name.searcher.answer(known, by_name), (len(back_K),), by_name)
    held_out = judge(surrogate, known, by_name.predictor, by_name.cfg.seed)
    calibration = held_out.score.calibration
    fixed_MK = np.stack([best_K, space.project(space.natural_K), space.uniform_K])
    predicted_M, claimed_M = surrogate.score(fixed_MK)
    mean_M, std_M = calibration.applied(predicted_M, claimed_M)
    inflation = float(calibration.inflation.at(predicted_M)[0])
    return Recommendation(
        problem.space.domains,
        best_K[back_K],
        *(float(mean_M[0]), float(std_M[0])),
        *(float(mean_M[1]), float(std_M[1])),
        *(float(mean_M[2]), float(std_M[2])),
        _gain(surrogate, calibration, known, fixed_MK[[0, 1]]),
        _gain(surrogate, calibration, known, fixed_MK[[0, 2]]),
        tuple(objective.metric_names[q] for q in objective.used),
        surrogate.repeats.noise_Q,
        held_out,
        len(known),
        len(surrogate.repeats.counts_D),
        effects(surrogate, space.domains, best_K, inflation).reordered(back_K),
        Signal.of(known, objective),
        further(known, height, calibration, by_name),
    )


def _gain(surrogate: Surrogate, calibration: Calibration, trials: Trials, pair_2K: Array) -> Gain:
    """What is left of a predicted difference, for one run of each mixture.

    An optimum is where a predictor flatters itself most: the difference is multiplied by the slope
    of measured on predicted, and the slope's own uncertainty is part of the interval.
    """
    mean_2 = surrogate.mean(pair_2K)
    predicted = float(mean_2[0] - mean_2[1])
    inflation_2 = calibration.inflation.at(mean_2)
    noise_2 = np.full(2, surrogate.noise_of(trials, surrogate.objective)[1])
    if not noise_2.any():
        noise_2 = inflation_2 * surrogate.inferred_noise(surrogate.objective)
    doubt = np.sqrt(np.square(inflation_2).mean()) * surrogate.difference_std(*pair_2K)
    spread = np.linalg.norm([doubt, calibration.slope_std * predicted, *noise_2])
    return Gain.of(calibration.slope * predicted, float(spread), int(surrogate.judged_D.sum()) - 2)

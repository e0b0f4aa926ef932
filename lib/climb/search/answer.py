"""The best mixture, how much better it is, and how sure that is.

Axes: T trials, D distinct mixtures, K domains, Q metrics of the objective, M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.predictor import Predictor
from climb.search.compare import Gain
from climb.search.rounds import STAGE_ANSWER, by_name, climb_to_top, draw
from climb.search.surrogate import Calibration, Surrogate
from climb.search.trials import Trials

if TYPE_CHECKING:
    from climb.config.sections import SearchConfig

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

    quality: dict[str, float]
    """Spearman correlation on held-out mixtures by metric, and of the score under `score`."""

    n_trials: int
    n_mixtures: int

    @property
    def p_better(self) -> float:
        """Probability that the answer beats natural proportions."""
        return self.gain.p_better

    @property
    def verdict(self) -> str:
        """`gain` or `no gain found`, over natural proportions."""
        return self.gain.verdict


def recommend(
    trials: Trials,
    space: FeasibleSet,
    objective: Objective,
    predictor: Predictor,
    cfg: SearchConfig,
) -> Recommendation:
    """Find the optimum of the predicted score, and judge it by what held-out trials say.

    A predicted gain counts only as far as predictions for held-out mixtures came true (see
    `_gain`). Trials of the answer itself are left out: measuring it must not change it.

    Raises:
        SearchError: fewer than 4 distinct mixtures.
    """
    assert trials.domains == space.domains, "one order of domains for trials and set"
    ordered, back_K = by_name(space)
    known = trials.unanswered().reordered(np.argsort(back_K))
    surrogate = Surrogate.fit(known, objective, predictor)
    rng = np.random.default_rng([cfg.seed, STAGE_ANSWER])
    drawn_NK = draw(ordered, rng, cfg.candidates, cfg)
    best_K = climb_to_top(drawn_NK, known.weights_TK, ordered, surrogate, rng)[0]
    calibration, quality = judge(surrogate, known, predictor, cfg.seed)
    fixed_MK = np.stack([best_K, ordered.project(ordered.natural_K), ordered.uniform_K])
    mean_M, std_M = calibration.applied(*surrogate.score(fixed_MK))
    gains = [_gain(surrogate, calibration, known, fixed_MK[[0, m]]) for m in (1, 2)]
    return Recommendation(
        space.domains,
        best_K[back_K],
        *(float(mean_M[0]), float(std_M[0])),
        *(float(mean_M[1]), float(std_M[1])),
        *(float(mean_M[2]), float(std_M[2])),
        gains[0],
        gains[1],
        tuple(objective.metric_names[q] for q in objective.used),
        surrogate.repeats.noise_Q,
        quality,
        len(known),
        len(surrogate.repeats.counts_D),
    )


def judge(
    surrogate: Surrogate, trials: Trials, predictor: Predictor, seed: int
) -> tuple[Calibration, dict[str, float]]:
    """Hold mixtures out in turn: how the score's predictions came true, and the rank per metric."""
    judged_D = surrogate.judged_D
    means_DQ, stds_DQ = (held_DQ[judged_D] for held_DQ in surrogate.held_out(predictor, seed))
    real_DQ, noise_DQ = surrogate.repeats.means_DQ[judged_D], surrogate.repeats.noise_DQ[judged_D]
    names = [surrogate.objective.metric_names[q] for q in surrogate.objective.used]
    quality = {
        name: Calibration.of(real_DQ[:, q], means_DQ[:, q], stds_DQ[:, q], noise_DQ[:, q]).rank
        for q, name in enumerate(names)
    }
    noise_D, noise = surrogate.noise_of(trials, surrogate.objective)
    # Without repeats the noise that the fits infer is part of what held-out runs calibrate.
    inferred = 0.0 if noise else surrogate.inferred_noise(surrogate.objective)
    mean_D, std_D = surrogate.combine(means_DQ, stds_DQ)
    real_D, noise_D = real_DQ @ surrogate.signs_Q, noise_D[judged_D]
    calibration = Calibration.of(real_D, mean_D, np.hypot(std_D, inferred), noise_D)
    quality["score"] = calibration.rank
    return calibration, quality


def _gain(surrogate: Surrogate, calibration: Calibration, trials: Trials, pair_2K: Array) -> Gain:
    """What is left of a predicted difference, for one run of each mixture.

    An optimum is where a predictor flatters itself most: the difference is multiplied by the slope
    of measured on predicted, and the slope's own uncertainty is part of the interval.
    """
    here, there = surrogate.mean(pair_2K)
    predicted = float(here - there)
    noise = surrogate.noise_of(trials, surrogate.objective)[1]
    noise = noise or surrogate.inferred_noise(surrogate.objective)
    spread = np.hypot(
        calibration.inflation * surrogate.difference_std(*pair_2K),
        np.hypot(calibration.slope_std * predicted, np.sqrt(2.0) * noise),
    )
    return Gain.of(calibration.slope * predicted, float(spread), int(surrogate.judged_D.sum()) - 2)

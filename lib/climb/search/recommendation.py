"""The recommended mixture, its predicted gain over each baseline, and how certain that is.

Axes: B baselines, K domains, Q metrics of the objective.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.search.calibration import Calibration, CrossValidation, cross_validate
from climb.search.effects import Effects, estimate_effects
from climb.search.gains import Gain, combine_std_errors
from climb.search.knowledge_gradient import FurtherRound, estimate_further_round
from climb.search.parallel import use_one_blas_thread
from climb.search.problem import SearchState
from climb.search.rounds import project_proposals
from climb.search.signal_to_noise import SignalToNoise
from climb.search.surrogate import Surrogate, group_scores
from climb.search.trials import Trials

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PredictedBaseline:
    """A baseline with its predicted score."""

    name: str
    weights_K: Array
    score_mean: float
    score_std: float
    gain: Gain
    """Gain of the recommendation over this baseline. Its interval is for one run of each mixture:
    it includes prediction error and observation noise."""


@dataclass(frozen=True, eq=False)
class Recommendation:
    """What a search recommends. Scores: higher is better; std: standard deviation."""

    domains: tuple[str, ...]
    weights_K: Array
    score_mean: float
    score_std: float
    baselines: tuple[PredictedBaseline, ...]
    """In the order of `search.baselines`; the first is the reference baseline."""

    metric_names: tuple[str, ...]
    """Metrics that the objective uses."""

    noise_Q: Array
    """Standard deviation of each metric over seeds, pooled over replicates; NaN without them."""

    validation: CrossValidation
    n_trials: int
    n_mixtures: int
    effects: Effects
    """What one percent more of each domain changes, at the recommendation."""

    signal_to_noise: SignalToNoise
    further_round: FurtherRound

    @property
    def quality(self) -> dict[str, float]:
        """Metric (or `score`) -> Spearman correlation in cross-validation."""
        return self.validation.quality

    @property
    def gain(self) -> Gain:
        """Predicted gain over the reference baseline."""
        return self.baselines[0].gain

    @property
    def verdict(self) -> str:
        """`gain` or `no gain found`, over the reference baseline."""
        return self.gain.verdict


@use_one_blas_thread
def recommend(state: SearchState) -> Recommendation:
    """Ask the searcher for its recommendation, and judge it by cross-validation.

    A predicted gain is multiplied by a factor of 0 to 1. The factor is small if predictions matched
    measured scores badly in cross-validation (see `predict_gain`).

    Raises:
        SearchError: fewer than 4 distinct mixtures.
        ComponentError: the searcher returned an invalid mixture.
    """
    problem, trials, surrogate = state.problem, state.trials, state.penalized.surrogate
    objective, domains = problem.required_objective, problem.space.domains
    best_K = project_proposals(problem.searcher.recommend(state), (len(domains),), problem)
    validation = cross_validate(surrogate, trials, problem.predictor, problem.cfg.seed)
    calibration = validation.score.calibration
    mixtures_MK = np.vstack([best_K[None], problem.make_baselines()])
    predicted_M, claimed_M = surrogate.predict_score(mixtures_MK)
    mean_M, std_M = calibration.apply(mixtures_MK, predicted_M, claimed_M)
    inflation = float(calibration.inflate(mixtures_MK, predicted_M)[0])
    effects = estimate_effects(surrogate, domains, best_K, inflation)
    return Recommendation(
        domains=tuple(domains[k] for k in state.restore_K),
        weights_K=best_K[state.restore_K],
        score_mean=float(mean_M[0]),
        score_std=float(std_M[0]),
        baselines=_predict_baselines(state, calibration, mixtures_MK, (mean_M, std_M)),
        metric_names=objective.weighted_names,
        noise_Q=surrogate.replicates.noise_Q,
        validation=validation,
        n_trials=len(trials),
        n_mixtures=surrogate.replicates.n_mixtures,
        effects=effects.reorder_domains(state.restore_K),
        signal_to_noise=SignalToNoise.measure(trials, objective),
        further_round=estimate_further_round(state, calibration),
    )


def _predict_baselines(
    state: SearchState, calibration: Calibration, mixtures_MK: Array, scores: tuple[Array, Array]
) -> tuple[PredictedBaseline, ...]:
    """Collect the baselines; row 0 of `mixtures_MK` and `scores` is the recommendation."""
    surrogate, (mean_M, std_M) = state.penalized.surrogate, scores
    return tuple(
        PredictedBaseline(
            baseline.name,
            mixtures_MK[b][state.restore_K],
            float(mean_M[b]),
            float(std_M[b]),
            predict_gain(surrogate, calibration, state.trials, mixtures_MK[[0, b]]),
        )
        for b, baseline in enumerate(state.problem.baselines, start=1)
    )


def predict_gain(
    surrogate: Surrogate, calibration: Calibration, trials: Trials, pair_2K: Array
) -> Gain:
    """Predict the difference between one run of each of two mixtures, with its interval.

    A predictor overestimates most at its optimum. So the difference is multiplied by the slope of a
    regression of measured on predicted values. The interval includes the error of the slope.

    The noise over seeds is estimated from few replicates. If this noise causes most of the error,
    the interval's Student t has few degrees of freedom.

    Args:
        surrogate: fitted to `trials`.
        calibration: of the score, from cross-validation.
        trials: with the replicates that show the observation noise.
        pair_2K: the recommended mixture and the one to compare it with.
    """
    mean_2 = surrogate.predict_mean(pair_2K)
    predicted = float(mean_2[0] - mean_2[1])
    inflation_2 = calibration.inflate(pair_2K, mean_2)
    replicates = group_scores(trials, surrogate.objective)
    noise_2 = float(replicates.known_noise_Q[0]) * calibration.spread_at(pair_2K)
    inferred_2 = np.zeros(2)
    if not noise_2.any():
        inferred_2 = inflation_2 * surrogate.infer_noise(surrogate.objective)
    error = np.sqrt(np.square(inflation_2).mean()) * surrogate.predict_difference_std(*pair_2K)
    prediction_std = np.linalg.norm([error, calibration.slope_std * predicted, *inferred_2])
    std, degrees_of_freedom = combine_std_errors(
        (float(prediction_std), float(np.linalg.norm(noise_2))),
        (int(surrogate.validation_D.sum()) - 2, len(trials) - len(replicates.counts_D)),
    )
    return Gain.from_std_error(calibration.slope * predicted, std, degrees_of_freedom)

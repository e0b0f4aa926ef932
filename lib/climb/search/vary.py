"""Compare values of one key of section `search`, for example predictors, on the same trials.

For every value, a surrogate is fitted to all trials, its quality is measured by cross-validation,
and the searcher recommends a mixture.

Axes: F fits, K domains, D mixtures of the cross-validation.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from climb.config import Config, build, change
from climb.errors import ConfigError
from climb.files import format_csv
from climb.predictor import Predictor
from climb.search.gains import Gain
from climb.search.problem import Problem, Searcher, SearchState
from climb.search.recommendation import Recommendation, predict_gain, recommend
from climb.search.trials import Trials

Array = NDArray[np.float64]
logger = logging.getLogger("climb.search.vary")

KEYS = ("predictor", "searcher", "candidates", "concentration", "temperature", "max_drop", "seed")
"""Keys of section `search` that can be varied: keys that change the fit, or the recommendation from
a fit. All fits share the feasible set, the objective, the baselines and the estimates of the
fidelities, so that their gains are comparable."""


@dataclass(frozen=True)
class VariedFit:
    """The fit and the recommendation with one value of the key."""

    name: str
    spearman: Mapping[str, float]
    """Rank correlation on held-out trials by metric, and of the score under `score`."""

    error: float
    """Root mean squared error of the score on held-out trials, divided by the standard deviation of
    the measured scores; 1 is as good as predicting their mean."""

    weights: Mapping[str, float]
    """The recommendation."""

    gain: Gain
    """The recommendation's gain over the reference baseline, as this value's fit predicts it."""

    judged: float
    """Mean gain that the other values' fits predict for this recommendation; NaN if there is only
    one value."""


def vary_fits(trials: Trials, problem: Problem, cfg: Config, key: str) -> list[VariedFit]:
    """Fit a surrogate to the same trials with every value of `compare.values` for a key.

    Args:
        trials: finished trials.
        problem: with its objective.
        cfg: the configuration.
        key: `search.NAME`, where NAME is one of KEYS.

    Raises:
        ConfigError: the key cannot be varied, or a value is wrong.
        SearchError: fewer than 4 distinct mixtures.
    """
    section, _, name = key.partition(".")
    if section != "search" or name not in KEYS:
        raise ConfigError(
            f"compare.vary is {key!r}, but only the keys {', '.join(KEYS)} of section search can "
            "be varied on the trials of a finished search; to vary another key, run a search "
            "with each value (compare.methods or ablate.keys)"
        )
    states, found = dict[str, SearchState](), dict[str, Recommendation]()
    for label, value in cfg.compare.values[key].items():
        own = change(cfg, {"search": {name: value}}, f"compare.values {key} {label}")
        logger.info("fitting %s", label)
        states[label] = SearchState.from_trials(trials, _change_problem(problem, own))
        found[label] = recommend(states[label])
    return [_describe(label, states, found) for label in found]


def _change_problem(problem: Problem, cfg: Config) -> Problem:
    search = cfg.search
    return dataclasses.replace(
        problem,
        predictor=build(search.predictor, Predictor),
        searcher=build(search.searcher, Searcher),
        cfg=search,
    )


def _describe(
    label: str, states: Mapping[str, SearchState], found: Mapping[str, Recommendation]
) -> VariedFit:
    own = found[label]
    score = own.validation.score
    std = float(score.measured_D.std())
    error = float(np.sqrt(np.square(score.predicted_D - score.measured_D).mean()))
    judged = [_judge(own, states[other], found[other]) for other in found if other != label]
    return VariedFit(
        name=label,
        spearman=own.quality,
        error=error / std if std else float("nan"),
        weights=dict(zip(own.domains, own.weights_K.tolist(), strict=True)),
        gain=own.gain,
        judged=float(np.mean(judged)) if judged else float("nan"),
    )


def _judge(own: Recommendation, state: SearchState, other: Recommendation) -> float:
    """Predict the gain of `own` over the reference, with the fit that recommends `other`."""
    sorted_K = np.argsort(state.restore_K)
    pair_2K = np.stack([own.weights_K, own.baselines[0].weights_K])[:, sorted_K]
    calibration = other.validation.score.calibration
    return predict_gain(state.penalized.surrogate, calibration, state.trials, pair_2K).mean


def format_fits(fits: Sequence[VariedFit]) -> str:
    """Format the fits as a Markdown table."""
    lines = [
        "| fit | Spearman | error | predicted gain | by the others | largest domains |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for fit in fits:
        top = sorted(fit.weights.items(), key=lambda item: (-item[1], item[0]))[:3]
        shown = ", ".join(f"{name} {weight:.0%}" for name, weight in top)
        gain = fit.gain
        lines.append(
            f"| {fit.name} | {fit.spearman['score']:.3f} | {fit.error:.3f} | {gain.mean:+.4f} "
            f"[{gain.low:+.4f}, {gain.high:+.4f}] | {fit.judged:+.4f} | {shown} |"
        )
    return "\n".join(lines)


def format_fits_csv(fits: Sequence[VariedFit]) -> str:
    """Format a CSV file with a row per fit: qualities, gains and the whole recommendation."""
    metrics = sorted({name for fit in fits for name in fit.spearman})
    domains = sorted({name for fit in fits for name in fit.weights})
    rows = []
    columns = ["fit", "error", "gain.mean", "gain.low", "gain.high", "gain.by_others"]
    columns += [f"spearman.{name}" for name in metrics] + [f"weight.{name}" for name in domains]
    for fit in fits:
        gain = fit.gain
        row = [fit.name, fit.error, gain.mean, gain.low, gain.high, fit.judged]
        row += [fit.spearman.get(name) for name in metrics]
        rows.append([*row, *(fit.weights.get(name) for name in domains)])
    return format_csv(columns, rows)

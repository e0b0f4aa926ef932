"""How well the predictor did, round by round, and for every mixture while it was held out.

Axes: T trials, D distinct mixtures, Q metrics of the objective.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from climb.errors import SearchError
from climb.search.answer import Recommendation
from climb.search.calibration import judge
from climb.search.searcher import Problem, ordered
from climb.search.surrogate import Surrogate
from climb.search.trials import Trials


def evidence(trials: Trials, answer: Recommendation, problem: Problem) -> dict[str, Any]:
    """What a reader needs to believe an answer or not, as plain JSON values.

    Args:
        trials: what the answer was made from, and perhaps trials of the answer itself.
        answer: what `recommend` said of them.
        problem: as it was for the answer.

    Returns:
        `quality.rounds` (held-out Spearman per metric and of the score, from the trials up to that
        round), `cross_validated` (held-out prediction and measured score of mixtures run here),
        `weighed` (what one unit more of each metric adds to the score), `noise` (standard deviation
        over seeds per metric), `signal` (variance over mixtures over that over seeds; null where it
        is not known or seeds make no difference), `noisy` (metrics of which it lies under
        `search.min_signal`), `effects` (what one percent more of each domain does), `further` (what
        one more round would be worth), `predicted` (the predictor's own view of the gain) and the
        number of trials.
    """
    score = answer.held_out.score
    wanted = problem.wanted
    noise = dict(zip(answer.metric_names, map(float, answer.noise_Q), strict=True))
    signal = answer.signal
    return {
        "quality": {"rounds": quality_by_round(trials, answer, problem)},
        "cross_validated": [
            {"predicted": float(p), "measured": float(m)}
            for p, m in zip(score.predicted_D, score.measured_D, strict=True)
        ],
        "weighed": {wanted.metric_names[q]: float(wanted.weights_Q[q]) for q in wanted.used},
        "noise": _plain(noise),
        "signal": _plain(dict(zip(signal.metric_names, signal.ratio_Q.tolist(), strict=True))),
        "noisy": list(signal.below(problem.cfg.min_signal)),
        "effects": answer.effects.as_json(),
        "further": vars(answer.further),
        "predicted": {
            "natural": vars(answer.gain),
            "uniform": vars(answer.gain_over_uniform),
        },
        "n_trials": len(trials),
    }


def quality_by_round(
    trials: Trials, answer: Recommendation, problem: Problem
) -> list[dict[str, Any]]:
    """Held-out Spearman correlations of what could be fitted after each round."""
    known, by_name, _ = ordered(trials, problem)
    last = int(known.rounds_T.max())
    rounds = []
    for round_ in range(last + 1):
        earlier = known.before(round_ + 1)
        if round_ == last:  # all trials: what the answer was judged by
            quality = answer.quality
        else:
            try:
                surrogate = Surrogate.fit(earlier, by_name.wanted, by_name.predictor)
            except SearchError:  # too few mixtures yet: no quality to speak of
                continue
            quality = judge(surrogate, earlier, by_name.predictor, by_name.cfg.seed).quality
        rounds.append({"round": round_, "n_trials": len(earlier), "spearman": _plain(quality)})
    return rounds


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    """NaN has no JSON: unknown values become null."""
    return {name: float(v) if np.isfinite(v) else None for name, v in values.items()}

"""The gain of one mixture over another, measured or predicted, with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from climb.errors import SearchError
from climb.objective import Objective
from climb.search.trials import Trials

Array = NDArray[np.float64]

LEVEL = 0.90
"""Coverage of every interval of a gain."""

_ROUNDING = 1e-12
"""Differences below this share of the values' size are rounding."""


@dataclass(frozen=True)
class Gain:
    """A difference of scores with its 90 % interval. Above 0 is better."""

    mean: float
    low: float
    high: float
    p_better: float
    """Probability that the difference is above 0, from the Student t of the interval."""

    n_pairs: int
    """Number of seeds that both mixtures were trained with; 0 for a prediction."""

    @classmethod
    def from_std_error(
        cls, mean: float, std_error: float, degrees_of_freedom: float = np.inf, n_pairs: int = 0
    ) -> Self:
        """Build a gain from a mean and its standard error, with Student's t."""
        if std_error <= 0.0:
            return cls(mean, mean, mean, 0.5 * (1.0 + float(np.sign(mean))), n_pairs)
        half_width = compute_half_width(std_error, degrees_of_freedom)
        p_better = float(stats.t.cdf(mean / std_error, degrees_of_freedom))
        return cls(mean, mean - half_width, mean + half_width, p_better, n_pairs)

    @property
    def verdict(self) -> str:
        """`gain` when the whole interval is above 0, else `no gain found`."""
        return "gain" if self.low > 0.0 else "no gain found"

    @property
    def test(self) -> str:
        """Name of the test behind the interval, for readers."""
        if self.n_pairs:
            return f"paired t test over {self.n_pairs} seeds"
        return "prediction of the surrogate"


def compute_half_width(std_error: float, degrees_of_freedom: float) -> float:
    """Return half the width of the Student t interval of a mean, with coverage `LEVEL`."""
    return float(stats.t.ppf(0.5 + LEVEL / 2.0, degrees_of_freedom)) * std_error


def combine_std_errors(
    std_errors: Sequence[float], degrees_of_freedom: Sequence[float]
) -> tuple[float, float]:
    """Return the standard error of a sum of independent parts, and its degrees of freedom.

    The degrees of freedom are Welch and Satterthwaite's approximation (Satterthwaite 1946,
    Biometrics Bulletin 2(6)). If one part causes most of the error, the result is close to the
    degrees of freedom of this part.

    Args:
        std_errors: standard error of each part; parts of 0 do not count.
        degrees_of_freedom: of each standard error.
    """
    parts = [(std**2, n) for std, n in zip(std_errors, degrees_of_freedom, strict=True) if std]
    if not parts:
        return 0.0, np.inf
    variance = sum(part for part, _ in parts)
    return float(np.sqrt(variance)), variance**2 / sum(part**2 / n for part, n in parts)


def paired_gain(
    scores: Mapping[int, float], baseline_scores: Mapping[int, float], sign: float = 1.0
) -> Gain | None:
    """Compare two mixtures over the seeds that both were trained with.

    The runs of both mixtures continue the same base checkpoint. Two runs with the same seed read
    the windows of a domain in the same order, so most of the effect of the seed cancels in the
    difference.

    If all differences are equal, their standard deviation is 0. This happens by chance with
    accuracies on few items. In this case, the absolute difference is used as the standard
    deviation. As a result, the interval contains 0 with up to 4 seeds, and excludes 0 with 5 or
    more. A sign test at 5 % decides the same: by chance, 4 differences are all positive with a
    probability of 1/16, and 5 differences with 1/32. If all differences are 0, both ends of the
    interval are 0.

    Args:
        scores: seed -> value of the first mixture.
        baseline_scores: seed -> value of the second mixture.
        sign: 1 if higher values are better, -1 if lower values are better.

    Returns:
        The gain of the first mixture over the second; None for fewer than 2 common seeds.
    """
    seeds = sorted(scores.keys() & baseline_scores.keys())
    if len(seeds) < 2:
        return None
    values_2S = np.array([[one[seed] for seed in seeds] for one in (scores, baseline_scores)])
    gains_S = sign * (values_2S[0] - values_2S[1])
    mean, std = float(gains_S.mean()), float(gains_S.std(ddof=1))
    rounding = _ROUNDING * float(np.abs(values_2S).max())
    if float(np.ptp(gains_S)) <= rounding:
        mean = mean if abs(mean) > rounding else 0.0
        std = abs(mean)
    return Gain.from_std_error(mean, std / np.sqrt(len(seeds)), len(seeds) - 1, len(seeds))


def is_constant(values: Array) -> bool:
    """Return whether values differ by rounding alone."""
    return float(np.ptp(values)) <= _ROUNDING * float(np.abs(values).max())


def compare(trials: Trials, objective: Objective, method: str, baseline: str) -> Gain:
    """Measure how much higher `method` scores than `baseline`, paired by seed.

    The measurement uses no predictor, so it is better evidence than a predicted gain.

    Raises:
        SearchError: there are fewer than 2 seeds for which both methods have a finished trial; one
            pair cannot give a standard error.
    """
    scores = []
    for name in (method, baseline):
        own = trials.with_method(name)
        scores.append(dict(zip(own.seeds_T.tolist(), objective.score(own.metrics_TQ), strict=True)))
    gain = paired_gain(scores[0], scores[1])
    if gain is None:
        common = len(scores[0].keys() & scores[1].keys())
        seeds = f"{common} seed{'' if common == 1 else 's'}"
        raise SearchError(
            f"methods {method!r} and {baseline!r} have {seeds} in common whose trials finished; a "
            "paired comparison needs at least 2: see column error of table trials, or raise "
            "search.replicates"
        )
    return gain

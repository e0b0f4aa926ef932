"""Metrics of a proxy -> one score, and higher is always better.

    mean(*.bpb):min                             all metrics that end in .bpb; lower is better
    pile_cc:min                                 one metric
    0.7*arc_easy.bpb:min + 0.3*piqa.prob:max    several, with weights and directions

Axes: T trials, Q metrics.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from climb.errors import ConfigError

Array = NDArray[np.float64]

_TERM = re.compile(
    r"(?:(?P<weight>\d+\.?\d*|\.\d+)\s*\*\s*)?"
    r"(?P<what>mean\(\s*(?P<patterns>[^()]+?)\s*\)|[^()\s]+)"
    r"\s*:\s*(?P<direction>min|max)"
)


@dataclass(frozen=True, eq=False)
class Objective:
    """A weighted sum of metrics; losses enter with a negative weight."""

    text: str
    metric_names: tuple[str, ...]
    """Names of all metrics that trials have, in the order of the columns of `metrics_TQ`."""

    weights_Q: Array
    """What one unit more of each metric adds to the score; 0 for metrics left out."""

    @classmethod
    def parse(cls, text: str, metric_names: Sequence[str]) -> Self:
        """Read an objective.

        Args:
            text: terms joined by +, each `[weight*]name:min|max` or
                `[weight*]mean(pattern, ...):min|max`.
            metric_names: the Q metrics that there are.

        Raises:
            ConfigError: a term that is not of that form, or a name or pattern that no metric has;
                the message lists the metrics there are.
        """
        names = tuple(metric_names)
        weights_Q = np.zeros(len(names))
        for term in text.split("+"):
            match = _parsed(term, text)
            sign = 1.0 if match["direction"] == "max" else -1.0
            weight = float(match["weight"] or 1.0)
            if match["patterns"] is None:
                found = [_exact(match["what"], names, text)]
            else:
                found = _matching(match["patterns"], names, text)
            weights_Q[found] += sign * weight / len(found)
        if not weights_Q.any():
            raise ConfigError(f"objective {text!r} weighs no metric: its terms cancel out")
        return cls(text, names, weights_Q)

    @classmethod
    def single(cls, name: str, metric_names: Sequence[str]) -> Self:
        """One metric as it is, whatever its name holds."""
        names = tuple(metric_names)
        weights_Q = np.zeros(len(names))
        weights_Q[names.index(name)] = 1.0
        return cls(name, names, weights_Q)

    @staticmethod
    def check(text: str) -> None:
        """Look at an objective before there are metrics.

        Raises:
            ConfigError: a term is not of the right form.
        """
        for term in text.split("+"):
            _parsed(term, text)

    @property
    def used(self) -> tuple[int, ...]:
        """Columns of the metrics that matter."""
        return tuple(int(q) for q in np.flatnonzero(self.weights_Q))

    def score(self, metrics_TQ: ArrayLike) -> Array:
        """One score per trial, shape (T,); metrics that the objective leaves out may be NaN."""
        metrics = np.asarray(metrics_TQ, dtype=np.float64)[..., list(self.used)]
        scores: Array = metrics @ self.weights_Q[list(self.used)]
        return scores


def _parsed(term: str, text: str) -> re.Match[str]:
    match = _TERM.fullmatch(term.strip())
    if match is None:
        raise ConfigError(
            f"objective {text!r}: {term.strip()!r} is not of the form `name:min`, "
            "`0.7*name:max` or `mean(*.bpb):min`"
        )
    return match


def _exact(name: str, names: tuple[str, ...], text: str) -> int:
    if name in names:
        return names.index(name)
    if any(mark in name for mark in "*?["):
        raise ConfigError(
            f"objective {text!r}: {name!r} is a pattern; write mean({name}) for the mean of all "
            "metrics that match"
        )
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        f"objective {text!r}: there is no metric {name!r}{hint} (metrics: {', '.join(names)})"
    )


def _matching(patterns: str, names: tuple[str, ...], text: str) -> list[int]:
    found: set[int] = set()
    for pattern in re.split(r"\s*,\s*", patterns):
        matched = [q for q, name in enumerate(names) if fnmatch.fnmatchcase(name, pattern)]
        if not matched:
            raise ConfigError(
                f"objective {text!r}: no metric matches {pattern!r} (metrics: {', '.join(names)})"
            )
        found.update(matched)
    return sorted(found)

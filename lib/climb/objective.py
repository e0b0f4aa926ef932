"""The objective: metrics of a proxy -> one score; higher is always better.

    mean(*.bpb):min                             all metrics that end in .bpb; lower is better
    pile_cc:min                                 one metric
    0.7*arc_easy.bpb:min + 0.3*piqa.prob:max    several, with weights and directions

Axes: T trials, Q metrics.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from climb.errors import ConfigError

Array = NDArray[np.float64]

# A quoted name is the single character \0 here; see `_parse_terms`.
_TERM = re.compile(
    r"(?:(?P<weight>\d+\.?\d*|\.\d+)\s*\*\s*)?"
    r"(?P<what>mean\(\s*(?P<patterns>{item}(?:,{item})*)\s*\)|\0|[^(),\s\0]+)"
    r"\s*:\s*(?P<direction>min|max)".replace("{item}", r"(?:\s*\0\s*|[^(),\0]+)")
)

_DIGITS = r"(?:\d+\.?\d*|\.\d+)"
_NUMBER = re.compile(rf"([+-]{_DIGITS}(?:[eE]-?\d+)?|{_DIGITS}[eE]-?\d+)\*")
"""A number with a sign or an exponent, which cannot be a weight, and the `*` after it."""

_QUOTED = re.compile(r'"[^"]*"')


@dataclass(frozen=True)
class _Pattern:
    """A name of a metric, or a pattern of names; a quoted name is no pattern."""

    text: str
    is_quoted: bool

    def matches(self, name: str) -> bool:
        if self.is_quoted:
            return name == self.text
        return fnmatch.fnmatchcase(name, self.text)


@dataclass(frozen=True)
class _Term:
    """A part of an objective between two `+`."""

    weight: float
    """Below 0 for a metric that is minimized."""

    patterns: Sequence[_Pattern]
    is_mean: bool


@dataclass(frozen=True, eq=False)
class Objective:
    """A weighted sum of metrics; losses enter with a negative weight."""

    text: str
    metric_names: tuple[str, ...]
    """Names of all metrics of the trials, in the order of the columns of `metrics_TQ`."""

    weights_Q: Array
    """Change of the score per unit of each metric; 0 for metrics that the objective leaves out."""

    @classmethod
    def parse(cls, text: str, metric_names: Sequence[str]) -> Self:
        """Parse an objective.

        Args:
            text: terms joined by +, each `[weight*]name:min|max` or
                `[weight*]mean(pattern, ...):min|max`. Quote a name that contains a character of
                this syntax: `"a+b (c), d":min`.
            metric_names: names of the Q metrics.

        Raises:
            ConfigError: a term is not of that form, or a name or pattern matches no metric; the
                message lists the metrics.
        """
        names = tuple(metric_names)
        weights_Q = np.zeros(len(names))
        for term in _parse_terms(text):
            if term.is_mean:
                columns = _match_metrics(term.patterns, names, text)
            else:
                columns = [_find_metric(term.patterns[0], names, text)]
            weights_Q[columns] += term.weight / len(columns)
        if not weights_Q.any():
            raise ConfigError(
                f"objective {text!r} has no weight on any metric: its terms cancel out or are 0"
            )
        return cls(text, names, weights_Q)

    @classmethod
    def from_metric(cls, name: str, metric_names: Sequence[str]) -> Self:
        """Build the objective that equals one metric; its name may have any characters."""
        names = tuple(metric_names)
        weights_Q = np.zeros(len(names))
        weights_Q[names.index(name)] = 1.0
        return cls(name, names, weights_Q)

    @staticmethod
    def check(text: str) -> None:
        """Check the syntax of an objective, before the metrics are known.

        Raises:
            ConfigError: a term is not of the form that `parse` reads.
        """
        _parse_terms(text)

    @property
    def weighted_columns(self) -> tuple[int, ...]:
        """Columns of the metrics whose weight is not 0."""
        return tuple(int(q) for q in np.flatnonzero(self.weights_Q))

    @property
    def weighted_names(self) -> tuple[str, ...]:
        """Names of the metrics whose weight is not 0."""
        return tuple(self.metric_names[q] for q in self.weighted_columns)

    def score(self, metrics_TQ: ArrayLike) -> Array:
        """Compute one score per trial, shape (T,); metrics with weight 0 may be NaN."""
        metrics = np.asarray(metrics_TQ, dtype=np.float64)[..., list(self.weighted_columns)]
        scores: Array = metrics @ self.weights_Q[list(self.weighted_columns)]
        return scores

    def score_run(self, metrics: Mapping[str, float]) -> float | None:
        """Compute the score of one run from its metrics by name.

        Returns:
            The score; None if a metric with a weight is missing, or its value is not finite.
        """
        row_1Q = np.array([[metrics.get(name, np.nan) for name in self.metric_names]])
        score = float(self.score(row_1Q)[0])
        return score if np.isfinite(score) else None


def _parse_terms(text: str) -> list[_Term]:
    """Split an objective into its terms.

    Raises:
        ConfigError: a term is not of the form that `Objective.parse` reads.
    """
    # While the text is split, a quoted name is one character that no name has.
    quoted = _QUOTED.findall(text)
    marked = _QUOTED.sub("\0", text)
    terms = []
    for part in marked.split("+"):
        match = _TERM.fullmatch(part.strip())
        names = [quoted.pop(0)[1:-1] for _ in range(part.count("\0"))]
        if match is None:
            shown = part.strip().replace("\0", '"..."')
            raise ConfigError(
                f"objective {text!r}: {shown!r} is not of the form `name:min`, `0.7*name:max` or "
                '`mean(*.bpb):min`; quote a name with spaces, commas, + or parentheses: `"a+b":min`'
            )
        listed = (match["patterns"] or match["what"]).strip()
        patterns = [
            _Pattern(names.pop(0) if item == "\0" else item, is_quoted=item == "\0")
            for item in re.split(r"\s*,\s*", listed)
        ]
        terms.append(
            _Term(
                weight=float(match["weight"] or 1.0) * (1 if match["direction"] == "max" else -1),
                patterns=patterns,
                is_mean=match["patterns"] is not None,
            )
        )
    return terms


def _find_metric(pattern: _Pattern, names: tuple[str, ...], text: str) -> int:
    name = pattern.text
    if name in names:
        return names.index(name)
    if not pattern.is_quoted and (number := _NUMBER.match(name)):
        raise ConfigError(
            f"objective {text!r}: {number[1]!r} is not a weight; write a weight without "
            "sign and exponent, such as 0.5; for a negative weight, write max instead of min, or "
            "min instead of max"
        )
    if not pattern.is_quoted and any(character in name for character in "*?["):
        raise ConfigError(
            f"objective {text!r}: {name!r} is a pattern; write mean({name}) for the mean of all "
            "matching metrics"
        )
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        f"objective {text!r}: there is no metric {name!r}{hint} (metrics: {', '.join(names)})"
    )


def _match_metrics(patterns: Sequence[_Pattern], names: tuple[str, ...], text: str) -> list[int]:
    columns: set[int] = set()
    for pattern in patterns:
        matched = [q for q, name in enumerate(names) if pattern.matches(name)]
        if not matched:
            listed, hint = ", ".join(names), ""
            if "[" in pattern.text and not pattern.is_quoted:
                hint = f'; "[...]" matches one character; quote a name with "[": "{pattern.text}"'
            raise ConfigError(
                f"objective {text!r}: no metric matches {pattern.text!r}{hint} (metrics: {listed})"
            )
        columns.update(matched)
    return sorted(columns)

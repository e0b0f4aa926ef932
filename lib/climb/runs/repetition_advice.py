"""What the CSV commands do and say about runs that repeat text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from climb.search.problem import Problem
from climb.search.repetition import count_new_epochs
from climb.search.repetition_cost import (
    MIN_REPEATING,
    REPEATED,
    RepetitionCost,
    measure_repetition,
)
from climb.search.result import SearchResult
from climb.search.trials import Trials

_MORE = 1.1
"""The cost of a mixture's repetition is extrapolated if the mixture's largest number of epochs is
at least this factor times the largest number of epochs in the runs."""


@dataclass(frozen=True, eq=False)
class DiscountedRuns:
    """The runs and the problem of a search, with the measured cost of repeating text."""

    trials: Trials
    problem: Problem
    cost: RepetitionCost | None
    """None if the tokens of runs or of domains are unknown."""

    @classmethod
    def measure(cls, trials: Trials, problem: Problem) -> DiscountedRuns:
        """Measure the cost of repetition.

        If a cost is measured, runs of one mixture are replicates only if they read the same number
        of tokens. If the cost is unknown, or if the runs show no cost, the numbers of tokens are
        removed. Then runs of one mixture are replicates even if these numbers differ.
        """
        cost = measure_repetition(trials, problem)
        if cost is None or cost.decay is None:
            trials = dataclasses.replace(trials, tokens_T=None)
        decay = cost.decay if cost else None
        return cls(trials, dataclasses.replace(problem, decay=decay), cost)


def describe_repeats(cost: RepetitionCost | None, result: SearchResult) -> list[str]:
    """Describe the cost of repetition, and whether the mixture repeats text more than any run."""
    known = {k: e for k, e in result.recommended.epochs.items() if e is not None}
    name = max(known, key=lambda k: known[k], default="")
    most = known.get(name, 0.0)
    target = f"The target run reads {name} {most:.2g} times"
    if cost is None:
        if most < REPEATED:
            return []
        return [
            f"{target}. What repetition costs is unknown: RUNS.csv has no column tokens with the "
            "tokens that each run read."
        ]
    lines = []
    if cost.decay is not None:
        lines.append(_describe_decay(cost, cost.decay))
    elif cost.n_repeating >= MIN_REPEATING:
        lines.append(
            f"{cost.n_repeating} mixtures repeat a domain, up to {cost.max_epochs:.2g} times: no "
            "cost of repetition was found beyond noise."
        )
    elif most >= REPEATED:
        lines.append(
            f"{target}. The cost of this repetition is not measured: {cost.n_repeating} mixtures "
            f"of the runs repeat a domain, but {MIN_REPEATING} are needed."
        )
    if cost.n_repeating >= MIN_REPEATING and most >= max(REPEATED, _MORE * cost.max_epochs):
        lines.append(
            f"{target}, more than any run (up to {cost.max_epochs:.2g} times): the cost of this "
            "repetition is " + ("extrapolated." if cost.decay is not None else "not measured.")
        )
    return lines


def _describe_decay(cost: RepetitionCost, decay: float) -> str:
    low, high = min(cost.decays), max(cost.decays)
    others = f"; {low:g} to {high:g} fit as well" if low < high else ""
    return (
        f"Repeated text helps less ({cost.n_repeating} mixtures repeat a domain; decay "
        f"{decay:g}{others}): 4 epochs of a domain help "
        f"as much as {count_new_epochs(4.0, decay):.2g} epochs of new text. Predictions take this "
        "into account."
    )

"""Read PRIOR.csv: the tokens of every domain.

Axis: K domains.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from climb.errors import InputError
from climb.mixture import FeasibleSet
from climb.runs.sheet import SUM_TOLERANCE, Sheet, sum_exactly

if TYPE_CHECKING:
    from climb.config.sections import SearchConfig


def read_prior(path: Path, domains: Sequence[str], cfg: SearchConfig) -> FeasibleSet:
    """Read PRIOR.csv (domain,tokens) and build the feasible set.

    If the numbers in column tokens sum to 1, they are token shares. Epochs are then unknown, so
    limits of epochs are ignored, and only constraints on weights apply.

    Raises:
        InputError: a column is missing, a cell is not a number, or the domains differ from those
            of the runs.
        MixtureError: a token count is invalid, or no mixture satisfies the constraints.
    """
    sheet = Sheet.read(path)
    tokens = sheet.read_numbers(["tokens"])[:, 0]
    domain_column = sheet.find_column("domain")
    names = [row[domain_column].strip() for row in sheet.rows]
    if sorted(names) != sorted(domains):
        missing = sorted(set(domains) - set(names))
        more = sorted((Counter(names) - Counter(domains)).elements())
        raise InputError(
            f"{path}: its domains differ from those of the runs (missing: "
            f"{', '.join(missing) or 'none'}; unknown or repeated: {', '.join(more) or 'none'})"
        )
    by_name = dict(zip(names, tokens.tolist(), strict=True))
    tokens_K = np.array([by_name[domain] for domain in domains])
    shares = abs(sum_exactly(tokens_K.tolist()) - 1.0) <= SUM_TOLERANCE
    constraints = cfg.mixture_constraints
    space = FeasibleSet.from_constraints(
        domains, tokens_K, constraints.without_epochs() if shares else constraints
    )
    unknown_K = np.full(len(domains), np.nan)
    return dataclasses.replace(space, tokens_K=unknown_K) if shares else space


def note_natural(space: FeasibleSet, prior: Path) -> str:
    """Return a note if the natural mixture is not feasible; empty if it is."""
    if space.contains(space.natural_K):
        return ""
    return (
        f'the constraints exclude the token shares of {prior}, so "natural" is the nearest mixture '
        "that they admit"
    )


def note_epochs(
    space: FeasibleSet, prior: Path, target_tokens: float, predicted_tokens: float | None
) -> str:
    """Return a note if epochs are unknown, or if epochs and metrics are for runs of unequal length.

    Args:
        space: the feasible set; epochs are unknown if the tokens of its domains are NaN.
        prior: file of the natural mixture, for the message.
        target_tokens: training tokens of the run for which epochs are computed.
        predicted_tokens: training tokens of the run for which metrics are predicted; None: unknown.

    Returns:
        The note; empty if there is none.
    """
    if np.isnan(space.tokens_K).any():
        return f"{prior} has token shares, not tokens: epochs are unknown and were not limited"
    if predicted_tokens is None or abs(target_tokens - predicted_tokens) < 1.0:
        return ""
    return (
        f"metrics are predicted for {predicted_tokens:.4g} training tokens (--tokens), and epochs "
        f"are those of a run of {target_tokens:.4g} training tokens (search.target_tokens)"
    )

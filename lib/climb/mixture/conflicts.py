"""Explain conflicts between bounds, and violations of bounds by a mixture, with their values.

Axes: K domains.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from climb.mixture.bounds import DomainBounds
from climb.mixture.support import TOLERANCE, is_satisfiable

_MAX_LISTED = 8
"""Maximum number of domains that a message lists; it gives only the number of the others."""


def find_conflicts(bounds: DomainBounds) -> list[str]:
    """Describe conflicts between bounds: where they are, and how to fix them.

    Conflicts that exist only because of `search.min_weight` are left out if there are others.

    Returns:
        One sentence per conflict; empty if there is a mixture that satisfies all bounds.
    """
    conflicts = [
        *_find_in_domains(bounds),
        *_find_in_groups(bounds),
        *_find_in_total(bounds),
    ]
    return conflicts or list(_find_with_min_weight(bounds))


def find_violations(
    bounds: DomainBounds, weights_K: NDArray[np.float64], tolerance: float
) -> list[str]:
    """Describe every bound that a mixture violates by more than a tolerance.

    Args:
        bounds: the bounds.
        weights_K: one mixture, in the order of `bounds.domains`.
        tolerance: for each weight and for each sum of weights.
    """
    found = []
    for k, (name, weight) in enumerate(zip(bounds.domains, weights_K.tolist(), strict=True)):
        if weight > bounds.upper_K[k] + tolerance:
            found.append(
                f"{name}: weight {weight:.4g} is above its upper bound {_explain_upper(bounds, k)}"
            )
        elif weight < bounds.lower_K[k] - tolerance:
            found.append(
                f"{name}: weight {weight:.4g} is below its lower bound {_explain_lower(bounds, k)}"
            )
        elif tolerance < weight < bounds.min_weight - tolerance:
            found.append(
                f"{name}: weight {weight:.4g} is neither 0 nor at least search.min_weight "
                f"{bounds.min_weight:g}"
            )
    for group in bounds.groups:
        total = math.fsum(weights_K[bounds.columns(group)])
        if not group.min_weight - tolerance <= total <= group.max_weight + tolerance:
            found.append(
                f"{_list_first(group.domains)}: the sum of weights is {total:.4g}; it must be "
                f"{group.min_weight:g} to {group.max_weight:g} ({group.config_key})"
            )
    return found


def _find_in_domains(bounds: DomainBounds) -> Iterator[str]:
    """Find lower bounds above upper bounds."""
    for k, name in enumerate(bounds.domains):
        excess = _lower_bound(bounds, k) - bounds.upper_K[k]
        if excess > TOLERANCE:
            yield (
                f"domain {name!r}: lower bound {_explain_lower(bounds, k)} is {excess:.4g} above "
                f"upper bound {_explain_upper(bounds, k)}; lower the first or raise the second"
            )


def _find_in_groups(bounds: DomainBounds) -> Iterator[str]:
    """Find groups whose domains allow too little weight, or require too much."""
    for group in bounds.groups:
        columns = bounds.columns(group)
        total = math.fsum(float(bounds.support_bounds.upper_K[k]) for k in columns)
        if group.min_weight > total + TOLERANCE:
            terms = _list_first(f"{bounds.domains[k]} {_explain_upper(bounds, k)}" for k in columns)
            yield (
                f"{group.config_key}: min_weight {group.min_weight:g} is "
                f"{group.min_weight - total:.4g} above the sum of its domains' upper bounds, "
                f"{total:.4g}: {terms}{_list_excluded(bounds, columns)}; lower min_weight or raise "
                "the upper bounds"
            )
        required = [k for k in columns if bounds.lower_K[k] > 0.0]
        total = math.fsum(_lower_bound(bounds, k) for k in required)
        if group.max_weight < total - TOLERANCE:
            terms = _list_first(
                f"{bounds.domains[k]} {_explain_lower(bounds, k)}" for k in required
            )
            yield (
                f"{group.config_key}: max_weight {group.max_weight:g} is "
                f"{total - group.max_weight:.4g} below the sum of its domains' lower bounds, "
                f"{total:.4g}: {terms}; raise max_weight or lower the lower bounds"
            )


def _find_in_total(bounds: DomainBounds) -> Iterator[str]:
    """Find upper bounds that sum to less than 1, and lower bounds that sum to more."""
    upper: list[tuple[float, str]] = []
    lower: list[tuple[float, str]] = []
    ungrouped = dict(enumerate(bounds.domains))
    for group in bounds.groups:
        columns, members = bounds.columns(group), _list_first(group.domains)
        own = math.fsum(bounds.upper_K[columns])
        why = "max_weight" if group.max_weight < own else f"upper bounds of {members}"
        total = min(own, group.max_weight)
        upper.append((total, f"{group.config_key} {total:.4g} ({why})"))
        own = math.fsum(_lower_bound(bounds, k) for k in columns)
        why = "min_weight" if group.min_weight > own else f"lower bounds of {members}"
        total = max(own, group.min_weight)
        lower.append((total, f"{group.config_key} {total:.4g} ({why})"))
        for k in columns.tolist():
            del ungrouped[k]
    for k, name in ungrouped.items():
        upper.append((float(bounds.upper_K[k]), f"{name} {_explain_upper(bounds, k)}"))
        lower.append((_lower_bound(bounds, k), f"{name} {_explain_lower(bounds, k)}"))
    total = math.fsum(value for value, _ in upper)
    if total < 1.0 - TOLERANCE:
        yield (
            f"the upper bounds sum to {total:.4g}, which is {1.0 - total:.4g} below 1: "
            f"{_list_largest(upper)}; raise some of them"
        )
    total = math.fsum(value for value, _ in lower)
    if total > 1.0 + TOLERANCE:
        yield (
            f"the lower bounds sum to {total:.4g}, which is {total - 1.0:.4g} above 1: "
            f"{_list_largest(lower)}; lower some of them"
        )


def _find_with_min_weight(bounds: DomainBounds) -> Iterator[str]:
    """Find bounds that exclude each other only because weights are 0 or at least `min_weight`."""
    support = bounds.widest_support
    if bounds.min_weight <= 0.0 or support.is_feasible:
        return
    key = f"search.min_weight {bounds.min_weight:g}"
    pools = zip(bounds.groups, bounds.support_bounds.pools, strict=False)
    bad = [group for group, pool in pools if not is_satisfiable(pool, bounds.support_bounds)]
    for group in bad:
        yield (
            f"{group.config_key}: no subset of {_list_first(group.domains)} with weights of at "
            f"least {key} can sum to between {group.min_weight:g} and {group.max_weight:g}"
            f"{_list_excluded(bounds, bounds.columns(group))}; lower search.min_weight, or change "
            "min_weight or max_weight of the constraint"
        )
    if bad:
        return
    if support.min_total > 1.0 + TOLERANCE:
        yield (
            f"with {key}, the weights sum to at least {support.min_total:.4g}, but a mixture sums "
            "to 1; lower search.min_weight, or the min_weight of search.constraints"
        )
        return
    every = np.arange(len(bounds.domains))
    yield (
        f"with {key}, no subset of the domains can sum to 1; the largest sum below 1 is "
        f"{support.max_total:.4g}{_list_excluded(bounds, every)}; lower search.min_weight, or "
        "raise search.max_epochs, search.max_share_ratio or the max_weight of search.constraints"
    )


def _lower_bound(bounds: DomainBounds, k: int) -> float:
    """Return a domain's lower bound; a bound above 0 is raised to `min_weight` if it is smaller."""
    lower = float(bounds.lower_K[k])
    return max(lower, bounds.min_weight) if lower > 0.0 else 0.0


def _explain_upper(bounds: DomainBounds, k: int) -> str:
    reason = bounds.reasons[k][1] if bounds.reasons else ""
    return f"{bounds.upper_K[k]:.4g}" + (f" ({reason})" if reason else "")


def _explain_lower(bounds: DomainBounds, k: int) -> str:
    reason = bounds.reasons[k][0] if bounds.reasons else ""
    if 0.0 < bounds.lower_K[k] < bounds.min_weight:
        reason = f"search.min_weight, because {reason or 'a lower bound'} requires a weight above 0"
    return f"{_lower_bound(bounds, k):.4g}" + (f" ({reason})" if reason else "")


def _list_excluded(bounds: DomainBounds, columns: NDArray[np.int64]) -> str:
    """List the domains that can never reach `min_weight`."""
    small = [bounds.domains[k] for k in columns if bounds.upper_K[k] < bounds.min_weight]
    if not small:
        return ""
    return f" (upper bounds below search.min_weight count as 0: {_list_first(small)})"


def _list_largest(parts: Sequence[tuple[float, str]]) -> str:
    order = sorted(parts, key=lambda part: (-part[0], part[1]))
    return _list_first(text for value, text in order if value > 0.0)


def _list_first(texts: Iterable[str]) -> str:
    """Join the first texts, and count the others."""
    listed = list(texts)
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    return ", ".join(listed[:_MAX_LISTED]) + more

"""Which limits cannot hold together, and which limits a mixture breaks, in words with numbers.

Axes: K domains.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from climb.support import SLACK, can_hold

if TYPE_CHECKING:
    from climb.mixture import FeasibleSet

_NAMED = 8
"""Domains that a message names; of more it says how many."""


def collisions(space: FeasibleSet) -> list[str]:
    """Every collision of the set's limits: what, where, by how much, and what mends it."""
    plain = [*_in_domains(space), *_in_groups(space), *_in_the_whole(space)]
    return plain or list(_of_min_weight(space))


def breaches(space: FeasibleSet, weights_K: NDArray[np.float64], tolerance: float) -> list[str]:
    """Every limit that a mixture breaks by more than a tolerance."""
    found = []
    for k, (name, weight) in enumerate(zip(space.domains, weights_K.tolist(), strict=True)):
        if weight > space.caps_K[k] + tolerance:
            found.append(f"{name} {weight:.4g}, at most {_cap(space, k)}")
        elif weight < space.floors_K[k] - tolerance:
            found.append(f"{name} {weight:.4g}, at least {_floor(space, k)}")
        elif tolerance < weight < space.min_weight - tolerance:
            found.append(
                f"{name} {weight:.4g}, 0 or at least search.min_weight {space.min_weight:g}"
            )
    for group in space.groups:
        total = math.fsum(weights_K[space.columns(group)])
        if not group.min_weight - tolerance <= total <= group.max_weight + tolerance:
            found.append(
                f"{_first(group.domains)} together {total:.4g}, right is {group.min_weight:g} to "
                f"{group.max_weight:g} ({group.key})"
            )
    return found


def _in_domains(space: FeasibleSet) -> Iterator[str]:
    """Floors above caps."""
    for k in range(len(space.domains)):
        least, cap = _least(space, k), space.caps_K[k]
        if least > cap + SLACK:
            yield (
                f"domain {space.domains[k]!r} must have at least {_floor(space, k)}, which is "
                f"{least - cap:.4g} more than its cap of {_cap(space, k)}: lower the floor, or "
                "raise the cap"
            )


def _in_groups(space: FeasibleSet) -> Iterator[str]:
    """Groups whose domains hold too little, or have floors that are too much."""
    for group in space.groups:
        columns = space.columns(group)
        caps = [(float(space.bounds.high_K[k]), k) for k in columns]
        held = math.fsum(cap for cap, _ in caps)
        if group.min_weight > held + SLACK:
            yield (
                f"{group.key}: min_weight {group.min_weight:g} is {group.min_weight - held:.4g} "
                f"more than the caps of its domains, {held:.4g}: "
                f"{_first(f'{space.domains[k]} {_cap(space, k)}' for _, k in caps)}; lower it or "
                f"raise them{_shut_out(space, columns)}"
            )
        floors = [k for k in columns if space.floors_K[k] > 0.0]
        needed = math.fsum(_least(space, k) for k in floors)
        if group.max_weight < needed - SLACK:
            yield (
                f"{group.key}: max_weight {group.max_weight:g} is {needed - group.max_weight:.4g} "
                f"less than the floors of its domains, {needed:.4g}: "
                f"{_first(f'{space.domains[k]} {_floor(space, k)}' for k in floors)}; raise it or "
                "lower them"
            )


def _in_the_whole(space: FeasibleSet) -> Iterator[str]:
    """Largest weights that do not reach 1, smallest weights beyond 1."""
    most: list[tuple[float, str]] = []
    least: list[tuple[float, str]] = []
    alone = dict(enumerate(space.domains))
    for group in space.groups:
        columns = space.columns(group)
        caps = math.fsum(space.caps_K[columns])
        floors = math.fsum(_least(space, k) for k in columns)
        why = "max_weight" if group.max_weight < caps else f"caps of {_first(group.domains)}"
        total = min(caps, group.max_weight)
        most.append((total, f"{group.key} {total:.4g} ({why})"))
        why = "min_weight" if group.min_weight > floors else f"floors of {_first(group.domains)}"
        total = max(floors, group.min_weight)
        least.append((total, f"{group.key} {total:.4g} ({why})"))
        for k in columns.tolist():
            del alone[k]
    for k, name in alone.items():
        most.append((float(space.caps_K[k]), f"{name} {_cap(space, k)}"))
        least.append((_least(space, k), f"{name} {_floor(space, k)}"))
    total = math.fsum(value for value, _ in most)
    if total < 1.0 - SLACK:
        yield (
            f"caps sum to {total:.4g}, a mixture needs 1 ({1.0 - total:.4g} more): "
            f"{_largest(most)}; raise some of them"
        )
    total = math.fsum(value for value, _ in least)
    if total > 1.0 + SLACK:
        yield (
            f"floors sum to {total:.4g}, a mixture has 1 ({total - 1.0:.4g} too much): "
            f"{_largest(least)}; lower some of them"
        )


def _of_min_weight(space: FeasibleSet) -> Iterator[str]:
    """Limits that hold together until weights are 0 or at least `min_weight`."""
    if space.min_weight <= 0.0 or space.witness.fits:
        return
    small = f"search.min_weight {space.min_weight:g}"
    bad = [
        group
        for group, pool in zip(space.groups, space.bounds.pools, strict=False)
        if not can_hold(pool, space.bounds)
    ]
    for group in bad:
        columns = space.columns(group)
        yield (
            f"{group.key}: no number of weights of at least {small} gives {_first(group.domains)} "
            f"a total of {group.min_weight:g} to {group.max_weight:g}"
            f"{_shut_out(space, columns)}: lower search.min_weight, or widen the limit"
        )
    if bad:
        return
    if space.witness.least > 1.0 + SLACK:
        yield (
            f"with weights of at least {small} the smallest possible weights sum to "
            f"{space.witness.least:.4g}, {space.witness.least - 1.0:.4g} too much for a mixture: "
            "lower search.min_weight, or the floors of search.limits"
        )
        return
    every = np.arange(len(space.domains))
    yield (
        f"caps sum to {space.caps_K.sum():.4g}, but to {space.witness.most:.4g} with weights of at "
        f"least {small}{_shut_out(space, every)}; a mixture needs 1: lower search.min_weight, or "
        "raise search.max_epochs, search.max_share_ratio or the max_weight of search.limits"
    )


def _cap(space: FeasibleSet, k: int) -> str:
    reason = space.reasons[k][1] if space.reasons else ""
    return f"{space.caps_K[k]:.4g}" + (f" ({reason})" if reason else "")


def _floor(space: FeasibleSet, k: int) -> str:
    reason = space.reasons[k][0] if space.reasons else ""
    if 0.0 < space.floors_K[k] < space.min_weight:
        reason = f"search.min_weight, where {reason or 'a floor'} keeps it in"
    return f"{_least(space, k):.4g}" + (f" ({reason})" if reason else "")


def _least(space: FeasibleSet, k: int) -> float:
    """A domain's floor; no floor lies under the smallest weight."""
    floor = float(space.floors_K[k])
    return max(floor, space.min_weight) if floor > 0.0 else 0.0


def _shut_out(space: FeasibleSet, columns: NDArray[np.int64]) -> str:
    """Domains that can never reach the smallest weight."""
    small = [space.domains[k] for k in columns if space.caps_K[k] < space.min_weight]
    return f" (caps below search.min_weight: {_first(small)})" if small else ""


def _largest(parts: Sequence[tuple[float, str]]) -> str:
    order = sorted(parts, key=lambda part: (-part[0], part[1]))
    return _first(text for value, text in order if value > 0.0)


def _first(texts: Iterable[str]) -> str:
    """Names in a row, cut where they are many."""
    named = list(texts)
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more

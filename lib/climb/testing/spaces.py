"""Random feasible sets with every kind of limit: what a sampler must not break.

Axes: K domains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from climb.limits import Limit, Limits
from climb.mixture import FeasibleSet

Array = NDArray[np.float64]

_MIN_WEIGHTS = (0.0, 2e-4, 0.01, 0.3)
"""Smallest weights; the last two over the square root of the number of domains."""


def random_space(n_domains: int, seed: int) -> FeasibleSet:
    """A set with caps by epochs, floors, caps and epochs of single domains, groups, and often a
    smallest weight.

    The limits are drawn around one hidden mixture, so that they never collide, however tight.

    Args:
        n_domains: K, 2 or more.
        seed: sets of different seeds have different limits.
    """
    rng = np.random.default_rng([seed, n_domains])
    names = tuple(f"d{k:03d}" for k in range(n_domains))
    tokens_K = 1e9 * (rng.gamma(0.7, size=n_domains) + 1e-3)
    natural_K = tokens_K / tokens_K.sum()
    min_weight = float(rng.choice(_MIN_WEIGHTS)) / (1.0 if rng.random() < 0.3 else n_domains**0.5)
    hidden_K = natural_K ** rng.uniform(0.2, 1.0) * rng.gamma(0.7, size=n_domains)
    hidden_K /= hidden_K.sum()
    hidden_K[(hidden_K < min_weight) & (hidden_K < hidden_K.max())] = 0.0
    hidden_K /= hidden_K.sum()
    often_K = hidden_K / natural_K
    max_epochs = max(1.05, float(np.quantile(often_K, rng.uniform(0.5, 1.0))))
    rules = [
        *_epochs(names, often_K, max_epochs, rng),
        *_single(names, hidden_K, rng),
        *_groups(names, hidden_K, rng),
    ]
    limits = Limits(
        target_tokens=float(tokens_K.sum()),
        max_epochs=max_epochs,
        min_weight=min(min_weight, float(hidden_K.max())),
        rules=tuple(rules),
        pull=float(rng.choice([0.0, 0.05])),
    )
    return FeasibleSet.of(names, tokens_K, limits)


def _epochs(
    names: tuple[str, ...], often_K: Array, max_epochs: float, rng: np.random.Generator
) -> list[Limit]:
    """Epochs of its own for whoever needs more than all may have, and for some others less."""
    rules = []
    for name, often in zip(names, often_K.tolist(), strict=True):
        if often > max_epochs or rng.random() < 0.15:
            own = often * rng.uniform(1.01, 1.5) + 0.01
            rules.append(Limit(name=f"epochs of {name}", domains=(name,), max_epochs=own))
    return rules


def _single(names: tuple[str, ...], hidden_K: Array, rng: np.random.Generator) -> list[Limit]:
    """Floors and caps of some domains."""
    rules = []
    for name, weight in zip(names, hidden_K.tolist(), strict=True):
        floor = weight * rng.uniform(0.2, 0.95) if rng.random() < 0.2 else 0.0
        cap = min(1.0, weight * rng.uniform(1.01, 3.0) + 1e-3) if rng.random() < 0.2 else 1.0
        rules.append(Limit(name=name, domains=(name,), min_weight=floor, max_weight=cap))
    return rules


def _groups(names: tuple[str, ...], hidden_K: Array, rng: np.random.Generator) -> list[Limit]:
    """Groups of two and more domains that hold some of them together."""
    order = rng.permutation(len(names))
    rules, start = [], 0
    while len(order) - start >= 2 and rng.random() < 0.8:
        size = int(rng.integers(2, max(3, len(order) // 4 + 1)))
        members = order[start : start + size]
        start += size
        total = float(hidden_K[members].sum())
        least = total * rng.uniform(0.3, 0.98) if rng.random() < 0.6 else 0.0
        most = total + (1.0 - total) * rng.uniform(0.02, 0.6) if rng.random() < 0.7 else 1.0
        domains = tuple(names[k] for k in members)
        rules.append(
            Limit(name=f"group {start}", domains=domains, min_weight=least, max_weight=most)
        )
    return rules

"""Random feasible sets with every kind of constraint, for tests of samplers and searchers.

Axes: K domains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from climb.mixture import Constraint, Constraints, FeasibleSet

Array = NDArray[np.float64]

_MIN_WEIGHTS = (0.0, 2e-4, 0.01, 0.3)
"""`draw_feasible_set` chooses one of these values for the constraint `min_weight`. For most sets,
it then divides the value by the square root of the number of domains."""


def draw_feasible_set(n_domains: int, seed: int) -> FeasibleSet:
    """Draw a feasible set with bounds of domains and groups, epoch limits and a smallest weight.

    The constraints are drawn around one hidden mixture, so they never exclude each other, however
    tight they are. A smallest weight of 0 is possible.

    Args:
        n_domains: K, 2 or more.
        seed: sets of different seeds have different constraints.
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
    epochs_K = hidden_K / natural_K
    max_epochs = max(1.05, float(np.quantile(epochs_K, rng.uniform(0.5, 1.0))))
    domain_constraints = (
        *_draw_epoch_limits(names, epochs_K, max_epochs, rng),
        *_draw_domain_bounds(names, hidden_K, rng),
        *_draw_groups(names, hidden_K, rng),
    )
    constraints = Constraints(
        target_tokens=float(tokens_K.sum()),
        max_epochs=max_epochs,
        min_weight=min(min_weight, float(hidden_K.max())),
        domain_constraints=domain_constraints,
        kl_penalty=float(rng.choice([0.0, 0.05])),
    )
    return FeasibleSet.from_constraints(names, tokens_K, constraints)


def _draw_epoch_limits(
    names: tuple[str, ...], epochs_K: Array, max_epochs: float, rng: np.random.Generator
) -> list[Constraint]:
    """Draw epoch limits for some domains.

    These are all domains that the hidden mixture reads more than `max_epochs` times, and some
    others.
    """
    constraints = []
    for name, epochs in zip(names, epochs_K.tolist(), strict=True):
        if epochs > max_epochs or rng.random() < 0.15:
            limit = epochs * rng.uniform(1.01, 1.5) + 0.01
            constraints.append(
                Constraint(name=f"epochs of {name}", domains=(name,), max_epochs=limit)
            )
    return constraints


def _draw_domain_bounds(
    names: tuple[str, ...], hidden_K: Array, rng: np.random.Generator
) -> list[Constraint]:
    """Draw lower and upper bounds of some domains."""
    constraints = []
    for name, weight in zip(names, hidden_K.tolist(), strict=True):
        lower = weight * rng.uniform(0.2, 0.95) if rng.random() < 0.2 else 0.0
        upper = min(1.0, weight * rng.uniform(1.01, 3.0) + 1e-3) if rng.random() < 0.2 else 1.0
        constraints.append(
            Constraint(name=name, domains=(name,), min_weight=lower, max_weight=upper)
        )
    return constraints


def _draw_groups(
    names: tuple[str, ...], hidden_K: Array, rng: np.random.Generator
) -> list[Constraint]:
    """Draw groups of two or more domains, with bounds of the total weight of each group."""
    order = rng.permutation(len(names))
    constraints, start = [], 0
    while len(order) - start >= 2 and rng.random() < 0.8:
        size = int(rng.integers(2, max(3, len(order) // 4 + 1)))
        members = order[start : start + size]
        start += size
        total = min(1.0, float(hidden_K[members].sum()))
        lower = total * rng.uniform(0.3, 0.98) if rng.random() < 0.6 else 0.0
        upper = total + (1.0 - total) * rng.uniform(0.02, 0.6) if rng.random() < 0.7 else 1.0
        domains = tuple(names[k] for k in members)
        constraints.append(
            Constraint(name=f"group {start}", domains=domains, min_weight=lower, max_weight=upper)
        )
    return constraints

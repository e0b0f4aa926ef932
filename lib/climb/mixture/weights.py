"""Convert mixtures to whole units, dictionaries and arrays, and compare mixtures.

Axes: K domains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from climb.errors import MixtureError

Array = NDArray[np.float64]

SAME_DECIMALS = 9
"""Mixtures whose weights agree to this number of decimals count as the same mixture."""


def apportion(weights_K: ArrayLike, total: int) -> NDArray[np.int64]:
    """Divide `total` whole units (tokens, sequences) among the domains; the parts sum to `total`.

    Every domain gets the whole part of its exact share. The rest goes to the largest remainders;
    ties go to the lower index. Exact fractions make large totals exact too.

    Args:
        weights_K: non-negative weights; they need not sum to 1.
        total: number of units.

    Raises:
        MixtureError: negative total, negative or non-finite weights, or no weight above 0.
    """
    weights = np.asarray(weights_K, dtype=np.float64)
    if total < 0 or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise MixtureError(
            f"cannot divide {total} units among domains with weights {weights.tolist()}; "
            "units must be 0 or more, weights finite and 0 or more, and at least one weight above 0"
        )
    fractions = [Fraction(float(weight)) for weight in weights]
    shares = [total * fraction / sum(fractions) for fraction in fractions]
    units_K = np.array([int(share) for share in shares], dtype=np.int64)
    by_remainder = sorted(range(len(shares)), key=lambda k: (int(shares[k]) - shares[k], k))
    units_K[by_remainder[: total - int(units_K.sum())]] += 1
    return units_K


def weights_to_dict(domains: Sequence[str], weights_K: ArrayLike) -> dict[str, float]:
    """Convert a mixture to domain name -> weight."""
    values = np.asarray(weights_K, dtype=np.float64).tolist()
    return dict(zip(domains, values, strict=True))


def weights_to_array(domains: Sequence[str], weights: Mapping[str, float]) -> Array:
    """Convert a mixture to an array in the order of `domains`, shape (K,).

    A domain that the mixture does not name has weight 0.

    Raises:
        MixtureError: the mixture gives weight to a domain that is not in `domains`.
    """
    unknown = [name for name in weights if name not in set(domains) and weights[name] != 0.0]
    if unknown:
        raise MixtureError(
            f"the mixture gives weight to unknown domains {sorted(unknown)}; the domains are "
            f"{list(domains)}"
        )
    return np.array([weights.get(domain, 0.0) for domain in domains], dtype=np.float64)


def is_same_mixture(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two mixtures agree in every weight, to `SAME_DECIMALS`."""
    names = one.keys() | other.keys()
    tolerance = 0.5 * 10.0**-SAME_DECIMALS
    return all(abs(one.get(n, 0.0) - other.get(n, 0.0)) <= tolerance for n in names)

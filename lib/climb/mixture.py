"""Mixtures and the set they may come from: limits, sampling, projection, whole tokens.

Axes: M mixtures, K domains. A mixture is non-negative, sums to 1, and is keyed by domain name
outside arrays. Everything that makes a mixture - the sampler, the acquisition, the refinement,
the answer - asks one `FeasibleSet`, so that no round can leave what another round kept to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from climb.box import box, checked_tokens
from climb.collisions import collisions
from climb.errors import MixtureError
from climb.limits import Limit, Limits
from climb.support import Bounds, Witness, nearest, witness
from climb.waterfill import ROUNDING, Pool

Array = NDArray[np.float64]

_BLOCK = 1024
"""Mixtures that are projected at once: few enough to stay in the cache. Changes no result."""


@dataclass(frozen=True, eq=False)
class FeasibleSet:
    """The mixtures that the target run can really be trained on.

    A weight is either 0 or lies between `min_weight` and its cap, and never under its floor; the
    weights of a group have a total between its own bounds.
    """

    domains: tuple[str, ...]
    tokens_K: Array
    """Tokens that each domain holds; NaN where only shares are known."""

    natural_K: Array
    """Token shares: the natural proportions, before any limit."""

    floors_K: Array
    """Smallest weight per domain; one with a floor above 0 always takes part."""

    caps_K: Array
    """Largest weight per domain."""

    min_weight: float = 0.0
    """A domain takes part with at least this weight, or not at all."""

    groups: tuple[Limit, ...] = ()
    """Limits on the total weight of several domains, by name; no domain is in two of them."""

    pull: float = 0.0
    """Score that a mixture loses per nat of KL divergence from the natural proportions."""

    reasons: tuple[tuple[str, str], ...] = ()
    """What sets each domain's floor, and what its cap; for messages. Empty: not known."""

    @classmethod
    def of(cls, domains: Sequence[str], tokens_K: ArrayLike, limits: Limits) -> Self:
        """Derive floors, caps and groups from limits.

        Args:
            domains: K names.
            tokens_K: tokens that each domain holds.
            limits: what is allowed and demanded.

        Raises:
            MixtureError: names or tokens that make no sense, limits on domains that there are not,
                or limits that no mixture can keep; the message says which limits collide and by
                how much.

        Source:
            The share ratio is RegMix's MAXIMUM_USAGE (arXiv 2407.01492); the pull is Olmix's
            (arXiv 2602.12237); the epochs cap is ours.
        """
        tokens = checked_tokens(domains, tokens_K)
        return cls(
            tuple(domains),
            tokens,
            tokens / math.fsum(tokens),
            min_weight=limits.min_weight,
            pull=limits.pull,
            **vars(box(limits, domains, tokens)),
        )

    def __post_init__(self) -> None:
        arrays = (self.tokens_K, self.natural_K, self.floors_K, self.caps_K)
        sizes = {len(self.domains), *map(len, arrays)}
        if len(sizes) != 1:
            raise MixtureError(
                f"{len(self.domains)} domains with arrays of other lengths {sorted(sizes)}"
            )
        if not 0.0 <= self.min_weight < 1.0:
            raise MixtureError(f"min_weight is {self.min_weight}; it must lie in [0, 1)")
        for name, bounds_K in (("floors", self.floors_K), ("caps", self.caps_K)):
            if not (np.isfinite(bounds_K).all() and (bounds_K >= 0.0).all()):
                raise MixtureError(f"{name} must be finite and non-negative: {bounds_K.tolist()}")
        problems = collisions(self)
        if problems:
            raise MixtureError("; ".join(problems))

    @cached_property
    def bounds(self) -> Bounds:
        """The limits as arithmetic needs them."""
        must_K = self.floors_K > 0.0
        high_K = np.where(self.caps_K >= self.min_weight, self.caps_K, 0.0)
        low_K = np.minimum(np.maximum(self.floors_K, self.min_weight), high_K)
        pools = [Pool(self.columns(g), g.min_weight, g.max_weight) for g in self.groups]
        grouped = {name for group in self.groups for name in group.domains}
        rest = [k for k, name in enumerate(self.domains) if name not in grouped]
        if rest:
            pools.append(Pool(np.array(rest, dtype=np.int64), 0.0, 1.0))
        rank_K = np.argsort(np.argsort(np.array(self.domains, dtype=object)))
        return Bounds(low_K, high_K, must_K, rank_K, tuple(pools))

    @cached_property
    def witness(self) -> Witness:
        """Domains that can make a mixture; they stand in where a mixture's own cannot."""
        return witness(self.bounds)

    def columns(self, group: Limit) -> NDArray[np.int64]:
        """Where the domains of a group stand."""
        return np.array([self.domains.index(name) for name in group.domains], dtype=np.int64)

    @property
    def uniform_K(self) -> Array:
        """The feasible mixture nearest to equal weights."""
        return self.project(np.full(len(self.domains), 1.0 / len(self.domains)))

    def reordered(self, order_K: Sequence[int] | NDArray[np.int64]) -> FeasibleSet:
        """The same set with its domains in another order."""
        index = np.asarray(order_K, dtype=np.int64)
        return replace(
            self,
            domains=tuple(self.domains[k] for k in index),
            tokens_K=self.tokens_K[index],
            natural_K=self.natural_K[index],
            floors_K=self.floors_K[index],
            caps_K=self.caps_K[index],
            reasons=tuple(self.reasons[k] for k in index) if self.reasons else (),
        )

    def project(self, weights_MK: ArrayLike) -> Array:
        """Move mixtures to the nearest feasible ones; feasible ones stay as they are, to the bit.

        What a cap cuts off goes to the other domains in proportion to their weights
        ("water-filling"), and what a floor or a group's least takes comes from them likewise, so
        ratios between domains that no bound holds stay: among all mixtures within floors, caps and
        groups this is the nearest in KL divergence. Domains of weight 0 receive something only
        when the others are full, and then in proportion to natural shares. After that, weights
        below `min_weight` become 0 - unless the rest could not hold the whole, or a group's least,
        when the largest of them are raised to `min_weight` instead - and the water is levelled
        again.

        Args:
            weights_MK: non-negative, shape (M, K) or (K,); rows need not sum to 1.

        Returns:
            Feasible mixtures of the same shape.

        Raises:
            MixtureError: wrong width, negative or non-finite weights, or a row of zeros.
        """
        given = np.asarray(weights_MK, dtype=np.float64)
        found_MK = self._checked(given).copy()
        moved = np.flatnonzero(~self.bounds.keep(found_MK, 0.0, ROUNDING * len(self.domains)))
        choice_K = self.witness.used_K if self.min_weight > 0.0 else None
        for start in range(0, len(moved), _BLOCK):
            rows = moved[start : start + _BLOCK]
            away_MK = found_MK[rows] / found_MK[rows].sum(axis=1, keepdims=True)
            found_MK[rows] = nearest(away_MK, self.natural_K, self.bounds, choice_K)
        return found_MK.reshape(given.shape)

    def _checked(self, given: Array) -> Array:
        """Rows of finite, non-negative weights, shape (M, K)."""
        weights_MK = np.atleast_2d(given)
        if given.ndim not in (1, 2) or weights_MK.shape[1] != len(self.domains):
            raise MixtureError(
                f"mixtures have shape {given.shape}; the last axis must hold "
                f"{len(self.domains)} domains"
            )
        if not (np.isfinite(weights_MK).all() and (weights_MK >= 0.0).all()):
            raise MixtureError("weights must be finite and non-negative")
        if not weights_MK.any(axis=1).all():
            raise MixtureError("a mixture of zeros has no nearest feasible mixture")
        return weights_MK

    def sample(
        self,
        rng: np.random.Generator,
        n: int,
        *,
        concentration: tuple[float, float],
        temperature: float,
    ) -> Array:
        """Draw n feasible mixtures around the natural proportions, shape (n, K).

        Each is a Dirichlet draw around prior = share ^ temperature (normalised) with a strength
        drawn log-uniformly from `concentration`, then projected: nothing is rejected, so tight
        limits cost no time. Small strengths give sparse mixtures.

        Source:
            Tempering and strengths as RegMix (arXiv 2407.01492) and NVIDIA's CLIMB recipe;
            projection instead of rejection is ours.
        """
        # Name order, so that the draw of a domain does not depend on its column.
        order_K = np.argsort(np.array(self.domains, dtype=object))
        prior_K = np.where(self.natural_K > 0.0, self.natural_K**temperature, 0.0)[order_K]
        prior_K /= prior_K.sum()
        low, high = np.log(concentration[0]), np.log(concentration[1])
        strength_M1 = np.exp(rng.uniform(low, high, size=(n, 1)))
        alpha_MK = np.maximum(strength_M1 * prior_K, 1e-12)
        # log Gamma(a) = log Gamma(a + 1) + log(U) / a: survives alphas at which a gamma underflows.
        log_MK = np.log(rng.gamma(alpha_MK + 1.0)) - rng.exponential(size=alpha_MK.shape) / alpha_MK
        log_MK = np.where(prior_K > 0.0, log_MK, -np.inf)
        drawn_MK = np.empty_like(log_MK)
        drawn_MK[:, order_K] = np.exp(log_MK - log_MK.max(axis=1, keepdims=True))
        return self.project(drawn_MK)

    def contains(self, weights_MK: ArrayLike, tolerance: float = 1e-9) -> NDArray[np.bool_]:
        """Whether each mixture keeps every limit to within `tolerance`, shape (M,) or ()."""
        weights = np.asarray(weights_MK, dtype=np.float64)
        return self.bounds.keep(weights, tolerance, tolerance * max(1, len(self.domains)))

    def penalty(self, weights_MK: ArrayLike) -> Array:
        """Score that each mixture loses to the pull, pull * KL(weights || natural), (M,) or ().

        0 log 0 is 0. No cap leaves weight to a domain without tokens; a mixture from elsewhere that
        gives it some loses infinitely much.

        Source:
            The term is Olmix's (arXiv 2602.12237).
        """
        weights = np.asarray(weights_MK, dtype=np.float64)
        if self.pull <= 0.0:
            return np.zeros(weights.shape[:-1])
        with np.errstate(divide="ignore", invalid="ignore"):
            nats = np.where(weights > 0.0, weights * np.log(weights / self.natural_K), 0.0)
        return np.asarray(self.pull * nats.sum(axis=-1))

    def epochs(self, weights_K: ArrayLike, target_tokens: float) -> Array:
        """How often a run of `target_tokens` repeats each domain, (K,); NaN for unknown tokens."""
        wanted_K = np.asarray(weights_K, dtype=np.float64) * target_tokens
        return np.divide(
            wanted_K, self.tokens_K, out=np.zeros_like(wanted_K), where=self.tokens_K != 0.0
        )


def apportion(weights_K: ArrayLike, total: int) -> NDArray[np.int64]:
    """Whole units (tokens, sequences) per domain that sum to exactly `total`.

    Every domain gets the whole part of its due, and the rest goes to the largest remainders; ties
    go to the lower index. Computed in exact fractions, so a large total loses nothing.

    Raises:
        MixtureError: negative total, negative or non-finite weights, or all zero.
    """
    weights = np.asarray(weights_K, dtype=np.float64)
    if total < 0 or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise MixtureError(f"cannot share {total} units by weights {weights.tolist()}")
    exact = [Fraction(float(weight)) for weight in weights]
    due = [total * weight / sum(exact) for weight in exact]
    units_K = np.array([int(share) for share in due], dtype=np.int64)
    by_remainder = sorted(range(len(due)), key=lambda k: (int(due[k]) - due[k], k))
    units_K[by_remainder[: total - int(units_K.sum())]] += 1
    return units_K


def weights_by_name(domains: Sequence[str], weights_K: ArrayLike) -> dict[str, float]:
    """A mixture outside arrays: domain name -> weight."""
    values = np.asarray(weights_K, dtype=np.float64).tolist()
    return dict(zip(domains, values, strict=True))


def weights_array(domains: Sequence[str], weights: Mapping[str, float]) -> Array:
    """A mixture as an array in the order of `domains`; names that are not in it have weight 0.

    Raises:
        MixtureError: the mixture gives weight to a domain that is not among `domains`.
    """
    unknown = [name for name in weights if name not in set(domains) and weights[name] != 0.0]
    if unknown:
        raise MixtureError(
            f"the mixture weighs unknown domains {sorted(unknown)}; known: {list(domains)}"
        )
    return np.array([weights.get(domain, 0.0) for domain in domains], dtype=np.float64)

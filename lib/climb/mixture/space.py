"""The feasible set of mixtures: projection, sampling, and the KL penalty.

Axes: M mixtures, K domains. A mixture is non-negative, sums to 1, and is keyed by domain name
outside arrays. The sampler, the acquisition function, the pattern search and the recommendation all
use one `FeasibleSet`, so every step of a search obeys the same constraints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from climb.errors import MixtureError
from climb.mixture.bounds import DomainBounds, check_tokens, derive_bounds
from climb.mixture.conflicts import find_conflicts
from climb.mixture.constraints import Constraints
from climb.mixture.projection import ROUNDING
from climb.mixture.support import project_with_support

Array = NDArray[np.float64]

_BLOCK = 1024
"""Mixtures projected at once: few enough to stay in the cache. The number changes no result."""


@dataclass(frozen=True, eq=False)
class FeasibleSet:
    """The mixtures that the target run can be trained on.

    Raises:
        MixtureError: arrays of the wrong length, or bounds that no mixture satisfies.
    """

    bounds: DomainBounds
    tokens_K: Array
    """Tokens of each domain; NaN where only shares are known."""

    natural_K: Array
    """The natural mixture: token shares, before any constraint."""

    kl_penalty: float = 0.0
    """Score that a mixture loses per nat of KL divergence from the natural mixture."""

    @classmethod
    def from_constraints(
        cls, domains: Sequence[str], tokens_K: ArrayLike, constraints: Constraints
    ) -> Self:
        """Build the feasible set of a corpus.

        Args:
            domains: K names.
            tokens_K: tokens of each domain.
            constraints: what is configured.

        Raises:
            MixtureError: invalid names or token counts, constraints on domains that do not exist,
                or constraints that no mixture satisfies. The message lists the conflicting
                constraints with their values.

        Source:
            The share ratio is RegMix's MAXIMUM_USAGE (arXiv 2407.01492); the KL penalty is Olmix's
            (arXiv 2602.12237); the bound by epochs is ours.
        """
        tokens = check_tokens(domains, tokens_K)
        bounds = derive_bounds(constraints, domains, tokens)
        return cls(bounds, tokens, tokens / math.fsum(tokens), constraints.kl_penalty)

    def __post_init__(self) -> None:
        sizes = {len(self.domains), len(self.tokens_K), len(self.natural_K)}
        if len(sizes) != 1:
            raise MixtureError(
                f"{len(self.domains)} domains, but {len(self.tokens_K)} token counts and "
                f"{len(self.natural_K)} natural weights; there must be one of each per domain"
            )
        conflicts = find_conflicts(self.bounds)
        if conflicts:
            raise MixtureError("; ".join(conflicts))

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the K domains, in the order of the arrays."""
        return self.bounds.domains

    @property
    def upper_K(self) -> Array:
        """Upper bound of each weight."""
        return self.bounds.upper_K

    @property
    def min_weight(self) -> float:
        """`search.min_weight`: a feasible weight is 0, or at least this."""
        return self.bounds.min_weight

    @property
    def uniform_K(self) -> Array:
        """The feasible mixture nearest to equal weights."""
        return self.project(np.full(len(self.domains), 1.0 / len(self.domains)))

    def reorder_domains(self, order_K: Sequence[int] | NDArray[np.int64]) -> FeasibleSet:
        """Put the domains in another order."""
        index_K = np.asarray(order_K, dtype=np.int64)
        return replace(
            self,
            bounds=self.bounds.reorder_domains(index_K),
            tokens_K=self.tokens_K[index_K],
            natural_K=self.natural_K[index_K],
        )

    def project(self, weights_MK: ArrayLike) -> Array:
        """Find the nearest feasible mixtures; feasible mixtures stay unchanged, to the bit.

        Weight above an upper bound goes to the domains that are not at a bound, in proportion to
        their weights ("water-filling"). Weight that a lower bound requires comes from these domains
        in the same way. So weights that are not at a bound keep their ratios to each other. If a
        group is at its bound, this holds within the group, and among the domains outside the group.
        The result is the nearest mixture in KL divergence within the bounds of domains and groups.
        Domains of weight 0 receive weight only for a lower bound (their own or their group's), or
        if all domains with positive weights are at their upper bounds. They share this weight in
        proportion to their natural shares.

        Then weights below `min_weight` become 0, and the larger weights are scaled again. If the
        larger weights cannot sum to 1, or to the lower bound of a group, the largest of the small
        weights are raised to `min_weight` instead. If no feasible mixture has exactly the domains
        of the larger and the raised weights, the domains that `find_widest_support` chooses are
        used.

        Args:
            weights_MK: non-negative, shape (M, K) or (K,); rows need not sum to 1.

        Returns:
            Feasible mixtures of the same shape.

        Raises:
            MixtureError: wrong width, negative or non-finite weights, or a row of zeros.
        """
        weights = np.asarray(weights_MK, dtype=np.float64)
        projected_MK = self._check_rows(weights).copy()
        tolerance_of_sums = ROUNDING * len(self.domains)
        feasible_M = self.bounds.support_bounds.contain(projected_MK, 0.0, tolerance_of_sums)
        outside = np.flatnonzero(~feasible_M)
        fallback_K = self.bounds.widest_support.chosen_K if self.min_weight > 0.0 else None
        for start in range(0, len(outside), _BLOCK):
            rows = outside[start : start + _BLOCK]
            scaled_MK = projected_MK[rows] / projected_MK[rows].sum(axis=1, keepdims=True)
            projected_MK[rows] = project_with_support(
                scaled_MK, self.natural_K, self.bounds.support_bounds, fallback_K
            )
        return projected_MK.reshape(weights.shape)

    def _check_rows(self, weights: Array) -> Array:
        """Check that weights are finite and non-negative, and return rows of shape (M, K)."""
        weights_MK = np.atleast_2d(weights)
        if weights.ndim not in (1, 2) or weights_MK.shape[1] != len(self.domains):
            raise MixtureError(
                f"mixtures have shape {weights.shape}; with {len(self.domains)} domains it must be "
                f"({len(self.domains)},) or (M, {len(self.domains)})"
            )
        if not (np.isfinite(weights_MK).all() and (weights_MK >= 0.0).all()):
            raise MixtureError("weights must be finite and non-negative")
        if not weights_MK.any(axis=1).all():
            raise MixtureError("a mixture whose weights are all zeros cannot be projected")
        return weights_MK

    def sample(
        self,
        rng: np.random.Generator,
        n: int,
        *,
        concentration: tuple[float, float],
        temperature: float,
    ) -> Array:
        """Draw n feasible mixtures around the natural mixture, shape (n, K).

        Each is a Dirichlet draw. Its mean is natural share ^ temperature, normalized. The sum of
        its parameters is drawn log-uniformly from the range `concentration`; small sums give sparse
        mixtures. The draw is projected, not rejected, so tight constraints cost no time.

        Source:
            Temperature and concentration are used as in RegMix (arXiv 2407.01492) and in NVIDIA's
            CLIMB recipe. Projection instead of rejection is ours.
        """
        # Sorted by name, so that the draw of a domain does not depend on its column.
        order_K = np.argsort(np.array(self.domains, dtype=object))
        prior_K = np.where(self.natural_K > 0.0, self.natural_K**temperature, 0.0)[order_K]
        prior_K /= prior_K.sum()
        low, high = np.log(concentration[0]), np.log(concentration[1])
        strength_M1 = np.exp(rng.uniform(low, high, size=(n, 1)))
        alpha_MK = np.maximum(strength_M1 * prior_K, 1e-12)
        # log Gamma(a) = log Gamma(a + 1) + log(U) / a does not underflow at small alphas.
        log_MK = np.log(rng.gamma(alpha_MK + 1.0)) - rng.exponential(size=alpha_MK.shape) / alpha_MK
        log_MK = np.where(prior_K > 0.0, log_MK, -np.inf)
        drawn_MK = np.empty_like(log_MK)
        drawn_MK[:, order_K] = np.exp(log_MK - log_MK.max(axis=1, keepdims=True))
        return self.project(drawn_MK)

    def contains(self, weights_MK: ArrayLike, tolerance: float = 1e-9) -> NDArray[np.bool_]:
        """Whether each mixture satisfies every bound, shape (M,) or ().

        Weights may miss their bounds by `tolerance`. Sums of weights may miss their bounds by
        K * `tolerance`.
        """
        weights = np.asarray(weights_MK, dtype=np.float64)
        tolerance_of_sums = tolerance * max(1, len(self.domains))
        return self.bounds.support_bounds.contain(weights, tolerance, tolerance_of_sums)

    def penalty(self, weights_MK: ArrayLike) -> Array:
        """Compute kl_penalty * KL(weights || natural) of each mixture, shape (M,) or ().

        0 log 0 is 0. If kl_penalty is above 0, weight on a domain without tokens has an infinite
        penalty; feasible mixtures have no such weight.

        Source:
            The term is Olmix's (arXiv 2602.12237).
        """
        weights = np.asarray(weights_MK, dtype=np.float64)
        if self.kl_penalty <= 0.0:
            return np.zeros(weights.shape[:-1])
        with np.errstate(divide="ignore", invalid="ignore"):
            nats = np.where(weights > 0.0, weights * np.log(weights / self.natural_K), 0.0)
        return np.asarray(self.kl_penalty * nats.sum(axis=-1))

    def epochs(self, weights_K: ArrayLike, target_tokens: float) -> Array:
        """Compute how many times a run of `target_tokens` reads each domain (1: once), shape (K,).

        NaN where the tokens of a domain are unknown.
        """
        read_K = np.asarray(weights_K, dtype=np.float64) * target_tokens
        return np.divide(
            read_K, self.tokens_K, out=np.zeros_like(read_K), where=self.tokens_K != 0.0
        )

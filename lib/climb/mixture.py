"""Mixtures and the set they may come from: caps, sampling, projection, whole tokens.

Axes: M mixtures, K domains. A mixture is non-negative, sums to 1, and is keyed by domain name
outside arrays. Everything that makes a mixture - the sampler, the acquisition, the refinement,
the answer - asks one `FeasibleSet`, so that no round can leave what another round kept to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from climb import waterfill
from climb.errors import MixtureError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FeasibleSet:
    """The mixtures that the target run can really be trained on.

    A weight is either 0 or lies between `min_weight` and its cap.
    """

    domains: tuple[str, ...]
    tokens_K: Array
    """Tokens that each domain holds; NaN where only shares are known."""

    natural_K: Array
    """Token shares: the natural proportions, before any limit."""

    caps_K: Array
    """Largest weight per domain."""

    min_weight: float
    """A domain takes part with at least this weight, or not at all."""

    @classmethod
    def of(
        cls,
        domains: Sequence[str],
        tokens_K: ArrayLike,
        *,
        target_tokens: float,
        max_epochs: float | None,
        max_share_ratio: float | None = None,
        min_weight: float = 0.0,
    ) -> Self:
        """Derive the caps: min(1, max_epochs * tokens / target_tokens, max_share_ratio * share).

        Args:
            domains: K names.
            tokens_K: tokens that each domain holds.
            target_tokens: tokens of the run that the mixture is for.
            max_epochs: how often that run may repeat a domain's tokens; None sets no limit.
            max_share_ratio: largest weight as a multiple of the token share; None sets no limit.
            min_weight: weights under this become 0.

        Raises:
            MixtureError: names or tokens that make no sense, or limits that no mixture can keep;
                the message says which limits collide and by how much.

        Source:
            The share ratio is RegMix's MAXIMUM_USAGE (arXiv 2407.01492); the epochs cap is ours.
        """
        tokens = _checked_tokens(domains, tokens_K)
        for name, value in (("target_tokens", target_tokens), ("max_epochs", max_epochs)):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise MixtureError(f"{name} is {value}; it must be a positive number")
        natural_K = tokens / math.fsum(tokens)
        epochs_K = np.inf if max_epochs is None else max_epochs * tokens / target_tokens
        ratio_K = np.inf if max_share_ratio is None else max_share_ratio * natural_K
        caps_K = np.minimum(1.0, np.minimum(epochs_K, ratio_K))
        if caps_K.sum() < 1.0 - 1e-9:
            raise MixtureError(
                _explain_caps(caps_K, tokens, target_tokens, max_epochs, max_share_ratio)
            )
        return cls(tuple(domains), tokens, natural_K, caps_K, min_weight)

    def __post_init__(self) -> None:
        sizes = {len(self.domains), *map(len, (self.tokens_K, self.natural_K, self.caps_K))}
        if len(sizes) != 1:
            raise MixtureError(
                f"{len(self.domains)} domains with arrays of other lengths {sorted(sizes)}"
            )
        if not 0.0 <= self.min_weight < 1.0:
            raise MixtureError(f"min_weight is {self.min_weight}; it must lie in [0, 1)")
        if not (np.isfinite(self.caps_K).all() and (self.caps_K >= 0.0).all()):
            raise MixtureError(f"caps must be finite and non-negative: {self.caps_K.tolist()}")
        most = waterfill.most_that_fits(self.caps_K, self.min_weight)
        if most < 1.0 - 1e-9:
            small = [
                d for d, c in zip(self.domains, self.caps_K, strict=True) if c < self.min_weight
            ]
            raise MixtureError(
                f"caps sum to {self.caps_K.sum():.4f}, but to {most:.4f} with weights of at least "
                f"min_weight {self.min_weight:g} (caps below it: {', '.join(small) or 'none'}); a "
                "mixture needs 1: lower min_weight, or raise max_epochs or max_share_ratio"
            )

    @property
    def uniform_K(self) -> Array:
        """The feasible mixture nearest to equal weights."""
        return self.project(np.full(len(self.domains), 1.0 / len(self.domains)))

    def reordered(self, order_K: Sequence[int] | NDArray[np.int64]) -> FeasibleSet:
        """The same set with its domains in another order."""
        index = np.asarray(order_K, dtype=np.int64)
        return FeasibleSet(
            tuple(self.domains[k] for k in index),
            self.tokens_K[index],
            self.natural_K[index],
            self.caps_K[index],
            self.min_weight,
        )

    def project(self, weights_MK: ArrayLike) -> Array:
        """Move mixtures to the nearest feasible ones; feasible ones stay as they are.

        What a cap cuts off goes to the other domains in proportion to their weights
        ("water-filling"), so ratios between uncapped domains stay: among all mixtures under the
        caps this is the nearest in KL divergence. Domains of weight 0 receive something only when
        every other domain is at its cap, and then in proportion to natural shares. After that,
        weights below `min_weight` become 0 - unless the rest could not hold the whole, when the
        largest of them are raised to `min_weight` instead - and the water is levelled again.

        Args:
            weights_MK: non-negative, shape (M, K) or (K,); rows need not sum to 1.

        Returns:
            Feasible mixtures of the same shape.

        Raises:
            MixtureError: wrong width, negative or non-finite weights, or a row of zeros.
        """
        given = np.asarray(weights_MK, dtype=np.float64)
        weights_MK = np.atleast_2d(given)
        if given.ndim not in (1, 2) or weights_MK.shape[1] != len(self.domains):
            raise MixtureError(
                f"mixtures have shape {given.shape}; the last axis must hold "
                f"{len(self.domains)} domains"
            )
        if not (np.isfinite(weights_MK).all() and (weights_MK >= 0.0).all()):
            raise MixtureError("weights must be finite and non-negative")
        total_M1 = weights_MK.sum(axis=1, keepdims=True)
        if not (total_M1 > 0.0).all():
            raise MixtureError("a mixture of zeros has no nearest feasible mixture")
        usable_K = np.where(self.caps_K >= self.min_weight, self.caps_K, 0.0)
        filled_MK = waterfill.fill(weights_MK / total_M1, self.natural_K, usable_K)
        if self.min_weight > 0.0:
            filled_MK = waterfill.drop_small(filled_MK, usable_K, self.min_weight)
        return filled_MK.reshape(given.shape)

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
        under = weights <= self.caps_K + tolerance
        zero = np.abs(weights) <= tolerance
        whole = np.abs(weights.sum(axis=-1) - 1.0) <= tolerance * max(1, len(self.domains))
        above = weights >= self.min_weight - tolerance
        return np.asarray(whole & (under & (zero | above) & (weights >= -tolerance)).all(axis=-1))

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


def _checked_tokens(domains: Sequence[str], tokens_K: ArrayLike) -> Array:
    tokens = np.array(tokens_K, dtype=np.float64)
    twice = sorted({name for name in domains if list(domains).count(name) > 1})
    if twice:
        raise MixtureError(f"domains are named twice: {', '.join(twice)}")
    if not domains or tokens.shape != (len(domains),):
        raise MixtureError(f"{len(domains)} domains, but token counts of shape {tokens.shape}")
    for name, count in zip(domains, tokens.tolist(), strict=True):
        if not (np.isfinite(count) and count >= 0.0):
            raise MixtureError(f"domain {name!r} has {count} tokens; it must be 0 or more")
    if not tokens.any():
        raise MixtureError("all domains are empty; a mixture needs tokens")
    return tokens


def _explain_caps(
    caps_K: Array, tokens_K: Array, target: float, max_epochs: float | None, ratio: float | None
) -> str:
    """Which limits collide, and by how much."""
    held, total = float(tokens_K.sum()), float(caps_K.sum())
    start = f"caps sum to {total:.4f}, a mixture needs 1: "
    if max_epochs is None:
        return f"{start}max_share_ratio is {ratio:g}; it must be 1 or more"
    supply = max_epochs * held
    if supply < target:
        return (
            f"{start}the domains' {held:.4g} tokens times max_epochs {max_epochs:g} give "
            f"{supply:.4g} tokens, but the target run needs {target:.4g}: raise max_epochs to "
            f"{target / held:.3g}, or lower target_tokens"
        )
    return (
        f"{start}max_epochs {max_epochs:g} alone would do ({supply:.4g} of {target:.4g} tokens), "
        f"but max_share_ratio {ratio:g} lowers caps further; it must be 1 or more"
    )

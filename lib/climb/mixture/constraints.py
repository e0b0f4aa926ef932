"""Constraints on mixtures, as a user configures them.

`climb.mixture.bounds` derives the bounds of each domain from them, `climb.mixture.space` builds the
feasible set, and `climb.mixture.conflicts` explains constraints that exclude each other.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from climb.errors import MixtureError


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A constraint on one domain, or on a named group of domains.

    For one domain, `min_weight` and `max_weight` are the lower and the upper bound of its weight.
    For several domains they bound the sum of the weights. Such groups must not share a domain;
    docs/decisions/mixing.md has the reason.

    The `max_epochs` of a constraint replaces `search.max_epochs` for each of its domains, even if
    `search.max_epochs` is smaller. If several constraints set `max_epochs` for a domain, the
    smallest of their values applies. Two kinds of constraints may overlap with any other
    constraint: constraints on epochs alone, and constraints on one domain.

    Raises:
        MixtureError: a field has an invalid value; the message names the field.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    """Makes an unknown key of `search.constraints` an error; pydantic reads this attribute."""

    name: str
    domains: tuple[str, ...]
    """Domain names, or shell patterns (`code*`)."""

    min_weight: float = 0.0
    """Lower bound of the sum of the domains' weights."""

    max_weight: float = 1.0
    """Upper bound of the sum of the domains' weights."""

    max_epochs: float | None = None
    """Largest number of times that the target run reads each domain; None: `search.max_epochs`."""

    def __post_init__(self) -> None:
        if not self.name:
            raise MixtureError(f"a constraint on {list(self.domains)}: name is empty; set a name")
        where = f"constraint {self.name!r}"
        if not self.domains:
            raise MixtureError(f"{where}: domains is empty; list at least one name or pattern")
        for field in ("min_weight", "max_weight"):
            value = getattr(self, field)
            if not 0.0 <= value <= 1.0:
                raise MixtureError(f"{where}: {field} is {value:g}; it must be between 0 and 1")
        if self.min_weight > self.max_weight:
            raise MixtureError(
                f"{where}: min_weight {self.min_weight:g} is greater than max_weight "
                f"{self.max_weight:g}; it must be 0 <= min_weight <= max_weight <= 1"
            )
        _check_positive(f"{where}: max_epochs", self.max_epochs)

    @property
    def bounds_weight(self) -> bool:
        """Whether the constraint bounds weights, and not only epochs."""
        return self.min_weight > 0.0 or self.max_weight < 1.0

    @property
    def config_key(self) -> str:
        """The configuration key of the constraint, for messages."""
        return f"search.constraints {self.name!r}"

    def resolve(self, domains: Sequence[str]) -> Constraint:
        """Replace patterns by the names of the domains that they match, sorted.

        Raises:
            MixtureError: a name or pattern matches no domain.
        """
        found: set[str] = set()
        for pattern in self.domains:
            matches = [pattern]
            if pattern not in domains:  # a name may contain the characters of a pattern
                matches = [name for name in domains if fnmatch.fnmatchcase(name, pattern)]
            if not matches:
                near = difflib.get_close_matches(pattern, domains, n=1, cutoff=0.0)
                raise MixtureError(
                    f"{self.config_key}: {pattern!r} matches none of the {len(domains)} domains; "
                    f"did you mean {near[0]!r}?"
                )
            found.update(matches)
        return replace(self, domains=tuple(sorted(found)))


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """All constraints on a mixture. `SearchConfig` has fields of the same names and explains them.

    Raises:
        MixtureError: a value is invalid. Names of domains are checked later, by `resolve`.
    """

    target_tokens: float
    max_epochs: float | None
    max_share_ratio: float | None = None
    min_weight: float = 0.0
    domain_constraints: tuple[Constraint, ...] = ()
    """`search.constraints`."""

    kl_penalty: float = 0.0

    def __post_init__(self) -> None:
        _check_positive("target_tokens", self.target_tokens)
        _check_positive("max_epochs", self.max_epochs)
        if self.max_share_ratio is not None and not self.max_share_ratio >= 1.0:
            raise MixtureError(
                f"max_share_ratio is {self.max_share_ratio:g}; it must be at least 1: it limits "
                f"the sum of all weights to {self.max_share_ratio:g}, but weights must sum to 1"
            )
        if not 0.0 <= self.min_weight < 1.0:
            raise MixtureError(f"min_weight is {self.min_weight}; it must be in [0, 1)")
        if not (math.isfinite(self.kl_penalty) and self.kl_penalty >= 0.0):
            raise MixtureError(f"kl_penalty is {self.kl_penalty}; it must be finite and at least 0")
        counts = Counter(constraint.name for constraint in self.domain_constraints)
        duplicates = sorted(name for name, count in counts.items() if count > 1)
        if duplicates:
            raise MixtureError(f"duplicate names of constraints: {', '.join(duplicates)}")

    def without_epochs(self) -> Constraints:
        """The constraints on weights alone, for domains whose token counts are unknown."""
        weights_only = tuple(replace(c, max_epochs=None) for c in self.domain_constraints)
        return replace(self, max_epochs=None, domain_constraints=weights_only)

    def find_epoch_limits(self, domains: Sequence[str]) -> dict[str, tuple[float, str]]:
        """Find how often each domain may be read, and the configuration key that sets this limit.

        Domains without a limit are left out.

        Raises:
            MixtureError: a constraint names a domain that does not exist.
        """
        limits: dict[str, tuple[float, str]] = {}
        for constraint in self.domain_constraints:
            if constraint.max_epochs is None:
                continue
            own = (constraint.max_epochs, f"{constraint.config_key}: max_epochs")
            for name in constraint.resolve(domains).domains:
                limits[name] = min(limits.get(name, own), own)
        if self.max_epochs is not None:
            default = (self.max_epochs, "search.max_epochs")
            limits = {name: limits.get(name, default) for name in domains}
        return limits


def _check_positive(name: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0.0):
        raise MixtureError(f"{name} is {value}; it must be finite and above 0")

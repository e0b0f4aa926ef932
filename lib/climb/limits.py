"""What a user allows and demands of a mixture.

`climb.box` says what that means for each domain, `climb.mixture.FeasibleSet` is made of it, and
`climb.collisions` says what cannot hold together.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from climb.errors import MixtureError

if TYPE_CHECKING:
    from climb.config.sections import SearchConfig


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A limit of one domain, or of a named group of domains.

    Over one domain, `min_weight` and `max_weight` are its floor and its cap. Over several they hold
    for the sum of their weights, and such groups must not share a domain: DECISIONS.md says why.
    `max_epochs` takes the place of the global one for each of the domains, be it larger or smaller;
    where several limits set it for a domain, the smallest wins. Limits of epochs alone may overlap
    with anything, and so may limits of one domain.

    Raises:
        MixtureError: a limit that makes no sense by itself.
    """

    name: str
    domains: tuple[str, ...]
    """Names, or patterns as a shell has them (`code*`)."""

    min_weight: float = 0.0
    """Least total weight of its domains."""

    max_weight: float = 1.0
    """Largest total weight of its domains."""

    max_epochs: float | None = None
    """How often the target run may repeat the tokens of each of its domains; None: as all."""

    def __post_init__(self) -> None:
        if not self.name or not self.domains:
            raise MixtureError(
                f"limit {self.name!r} on {list(self.domains)} needs a name and domains"
            )
        if not 0.0 <= self.min_weight <= self.max_weight <= 1.0:
            raise MixtureError(
                f"limit {self.name!r} has min_weight {self.min_weight:g} and max_weight "
                f"{self.max_weight:g}; right is 0 <= min_weight <= max_weight <= 1"
            )
        _check_positive(f"limit {self.name!r}: max_epochs", self.max_epochs)

    @property
    def weighs(self) -> bool:
        """Whether it bounds weights, and not epochs alone."""
        return self.min_weight > 0.0 or self.max_weight < 1.0

    @property
    def key(self) -> str:
        """Where it stands in the configuration."""
        return f"search.limits {self.name!r}"

    def over(self, domains: Sequence[str]) -> Limit:
        """The same limit with its patterns resolved to names, in the order of the names.

        Raises:
            MixtureError: a name or pattern that matches no domain.
        """
        found: set[str] = set()
        for pattern in self.domains:
            hits = [pattern]
            if pattern not in domains:  # a name may hold what a pattern reads as a wildcard
                hits = [name for name in domains if fnmatch.fnmatchcase(name, pattern)]
            if not hits:
                near = difflib.get_close_matches(pattern, domains, n=1, cutoff=0.0)
                raise MixtureError(
                    f"{self.key}: {pattern!r} matches none of the {len(domains)} domains; the "
                    f"nearest is {near[0]!r}"
                )
            found.update(hits)
        return replace(self, domains=tuple(sorted(found)))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """All limits of a mixture. Each number means what its namesake in `SearchConfig` means.

    Raises:
        MixtureError: values that make no sense whatever the domains are.
    """

    target_tokens: float
    max_epochs: float | None
    max_share_ratio: float | None = None
    min_weight: float = 0.0
    rules: tuple[Limit, ...] = ()
    pull: float = 0.0

    def __post_init__(self) -> None:
        _check_positive("target_tokens", self.target_tokens)
        _check_positive("max_epochs", self.max_epochs)
        if self.max_share_ratio is not None and not self.max_share_ratio >= 1.0:
            raise MixtureError(
                f"max_share_ratio is {self.max_share_ratio:g}; it must be 1 or more, or all "
                f"weights together stay under {self.max_share_ratio:g}"
            )
        if not 0.0 <= self.min_weight < 1.0:
            raise MixtureError(f"min_weight is {self.min_weight}; it must lie in [0, 1)")
        if not (math.isfinite(self.pull) and self.pull >= 0.0):
            raise MixtureError(f"pull is {self.pull}; it must be 0 or more")
        twice = sorted(n for n, c in Counter(rule.name for rule in self.rules).items() if c > 1)
        if twice:
            raise MixtureError(f"limits are named twice: {', '.join(twice)}")

    @classmethod
    def of(cls, cfg: SearchConfig) -> Self:
        """The limits that a configuration sets."""
        return cls(
            target_tokens=cfg.target_tokens,
            max_epochs=cfg.max_epochs,
            max_share_ratio=cfg.max_share_ratio,
            min_weight=cfg.min_weight,
            rules=tuple(Limit(**section.model_dump()) for section in cfg.limits),
            pull=cfg.pull,
        )

    def without_epochs(self) -> Limits:
        """The same for domains of which only shares are known: limits of weights alone."""
        rules = tuple(replace(rule, max_epochs=None) for rule in self.rules)
        return replace(self, max_epochs=None, rules=rules)

    def epochs(self, domains: Sequence[str]) -> dict[str, tuple[float, str]]:
        """How often each domain may be repeated, and which key says so; without a limit, nothing.

        Raises:
            MixtureError: a limit on a domain that there is not.
        """
        found: dict[str, tuple[float, str]] = {}
        for rule in self.rules:
            for name in rule.over(domains).domains if rule.max_epochs is not None else ():
                own = (rule.max_epochs or 0.0, f"{rule.key}: max_epochs")
                found[name] = min(found.get(name, own), own)
        if self.max_epochs is not None:
            everywhere = (self.max_epochs, "search.max_epochs")
            found = {name: found.get(name, everywhere) for name in domains}
        return found


def _check_positive(name: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0.0):
        raise MixtureError(f"{name} is {value}; it must be a positive number")

"""Baselines: mixtures that are trained for comparison with the recommendation.

The list `search.baselines` of the configuration has one plug-in for each baseline. Such a plug-in
has a name, a method that makes the mixture, and a number of replicates. The first baseline of the
list is the reference baseline.

    baselines:
      - {use: "climb.search.baselines:NaturalMixture", name: natural}
      - {use: "climb.search.baselines:FixedMixture", name: ours, weights: {web: 0.7, code: 0.3}}

Axes: K domains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from climb.config.plugins import build
from climb.errors import ConfigError, MixtureError
from climb.mixture import FeasibleSet, weights_to_array
from climb.search.trials import NATURAL, PROPOSAL, RECOMMENDED, REUSED

Array = NDArray[np.float64]


@runtime_checkable
class Baseline(Protocol):
    """A mixture to compare with: a frozen dataclass with these fields and this method."""

    @property
    def name(self) -> str:
        """Its name in the report, and the `method` of its trials."""

    @property
    def replicates(self) -> int | None:
        """Number of seeds that it is trained with, at least 2; None: `search.replicates`."""

    def make_mixture(self, space: FeasibleSet) -> Array:
        """Return a feasible mixture, shape (K,), in the order of `space.domains`."""


@dataclass(frozen=True, kw_only=True)
class NaturalMixture:
    """The token shares of the corpus, projected into the feasible set."""

    name: str
    replicates: int | None = None

    def make_mixture(self, space: FeasibleSet) -> Array:
        """Return the feasible mixture nearest to the token shares, shape (K,)."""
        return space.project(space.natural_K)


@dataclass(frozen=True, kw_only=True)
class UniformMixture:
    """The same weight for every domain, projected into the feasible set."""

    name: str
    replicates: int | None = None

    def make_mixture(self, space: FeasibleSet) -> Array:
        """Return the feasible mixture nearest to equal weights, shape (K,)."""
        return space.uniform_K


@dataclass(frozen=True, kw_only=True)
class FixedMixture:
    """Configured weights by domain name, projected into the feasible set."""

    name: str
    weights: Mapping[str, float]
    """The weights need not sum to 1; a domain that is left out has weight 0."""

    replicates: int | None = None

    def make_mixture(self, space: FeasibleSet) -> Array:
        """Return the feasible mixture nearest to the configured weights, shape (K,).

        Raises:
            MixtureError: a name that is not a domain, a negative weight, or only weights of 0.
        """
        try:
            return space.project(weights_to_array(space.domains, self.weights))
        except MixtureError as error:
            raise MixtureError(f"search.baselines {self.name!r}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class DoremiMixture:
    """The mixture of DoReMi, projected into the feasible set; section `doremi` has its settings.

    The job `search` first trains DoReMi's two models. Then it replaces this baseline by a
    `FixedMixture` with the domain weights that DoReMi computed.
    """

    name: str
    replicates: int | None = None

    def make_mixture(self, space: FeasibleSet) -> Array:
        """Raise an error: the weights come from training, not from the feasible set.

        Raises:
            MixtureError: always.
        """
        raise MixtureError(
            f"search.baselines {self.name!r}: DoReMi's weights come from trained models, so only "
            "`climb search` can use this baseline; for other commands, remove it from "
            "search.baselines, or use a FixedMixture with the weights that `climb doremi` prints"
        )

    def fix(self, weights: Mapping[str, float]) -> FixedMixture:
        """Return this baseline with the domain weights that DoReMi computed."""
        return FixedMixture(name=self.name, weights=weights, replicates=self.replicates)


DEFAULT_BASELINES = (
    NaturalMixture(name=NATURAL),
    UniformMixture(name="uniform"),
)
"""The baselines of conf/default.yaml, for problems that are built without a configuration."""


def build_baselines(specs: Sequence[Mapping[str, Any]]) -> tuple[Baseline, ...]:
    """Build the baselines that `search.baselines` lists.

    Raises:
        ConfigError: a plug-in cannot be built; a name is used twice or reserved; there are
            NaturalMixtures, but none has the name `natural`; a baseline of another class has the
            name `natural`; or a baseline has fewer than 2 replicates.
    """
    baselines = tuple(build(spec, Baseline) for spec in specs)
    counts = Counter(baseline.name for baseline in baselines)
    for baseline in baselines:
        name = baseline.name
        if counts[name] > 1 or name in (RECOMMENDED, PROPOSAL, REUSED):
            taken = "used twice" if counts[name] > 1 else "reserved"
            raise ConfigError(f"search.baselines: the name {name!r} is {taken}; choose another")
        is_natural = isinstance(baseline, NaturalMixture)
        if (name == NATURAL and not is_natural) or (is_natural and not counts[NATURAL]):
            raise ConfigError(
                f"search.baselines {name!r}: the name {NATURAL!r} is for a NaturalMixture; a "
                "list with a NaturalMixture needs one of this name; change the name. The "
                "search finds the trials of the natural mixture by this name, when it corrects "
                "the metrics of runs on earlier domains"
            )
        if baseline.replicates is not None and baseline.replicates < 2:
            raise ConfigError(
                f"search.baselines {name!r}: replicates is {baseline.replicates}; an interval "
                "needs at least 2"
            )
    return baselines


def count_replicates(baseline: Baseline, default: int) -> int:
    """Return the number of seeds that a baseline is trained with."""
    return default if baseline.replicates is None else baseline.replicates


def needs_doremi(specs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether `search.baselines` has the mixture of DoReMi.

    Raises:
        ConfigError: as for `build_baselines`.
    """
    return any(isinstance(baseline, DoremiMixture) for baseline in build_baselines(specs))

"""The mixture of one method of a comparison, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from climb import tables
from climb.config import Config, build
from climb.errors import ConfigError
from climb.mixture import weights_to_dict
from climb.search import SearchResult
from climb.search.baselines import Baseline, FixedMixture
from climb.search.comparison import Method
from climb.search.trials import RECOMMENDED
from climb.spark.delta.store import Store
from climb.spark.training.doremi import train_doremi
from climb.spark.training.setup import build_trial_setup
from climb.spark.training.study import read_space


@dataclass(frozen=True)
class FoundMixture:
    """A mixture with the price that its method pays for it."""

    weights: Mapping[str, float]
    """Domain -> weight."""

    n_trials: float = 0.0
    """Price of the mixture in trials. A model that is not a trial has a price too: its number of
    tokens divided by the number of tokens of a trial."""

    n_tokens: float = 0.0
    trial_ids: tuple[str, ...] = ()
    """Trials that other methods may share. Every method pays the full price of a shared trial."""


@runtime_checkable
class MixtureMethod(Protocol):
    """A plug-in of `compare.methods` that trains models to find a mixture.

    The plug-in is a frozen dataclass. Its work must be resumable. Its mixture must depend only on
    the configuration and on the tables that `pack` and the jobs before it write.
    """

    def count_trials(self, cfg: Config) -> float:
        """Return how many trials the method will pay for; this is known before any training."""

    def find_mixture(self, store: Store, cfg: Config) -> FoundMixture:
        """Train what is missing, and return the mixture for the seed `cfg.search.seed`."""


@dataclass(frozen=True, kw_only=True)
class DoremiMethod:
    """DoReMi with the whole budget: half of the tokens for its reference model, half for its proxy.

    Section `doremi` has its settings, except the seed. Each repetition of the comparison has its
    own seed.
    """

    def count_trials(self, cfg: Config) -> float:
        """Return the budget of the comparison."""
        return float(cfg.compare.budget)

    def find_mixture(self, store: Store, cfg: Config) -> FoundMixture:
        """Return the feasible mixture of DoReMi; train both models unless their result is recorded.

        Raises:
            ClimbError: as for `train_doremi`.
        """
        own = cfg.doremi.model_copy(update={"seed": cfg.search.seed})
        cfg = cfg.model_copy(update={"doremi": own})
        setup = build_trial_setup(store, cfg)
        result = train_doremi(store, cfg, setup, cfg.compare.budget)
        space = read_space(store, cfg)
        mixture = FixedMixture(name="doremi", weights=result.weights).make_mixture(space)
        weights = weights_to_dict(space.domains, mixture)
        return FoundMixture(weights, result.n_trials, result.n_tokens)


def build_plugin(method: Method) -> Baseline | MixtureMethod:
    """Build the plug-in of a method that has no search.

    Raises:
        ConfigError: it cannot be built, is neither a Baseline nor a MixtureMethod, or exceeds the
            budget.
    """
    where = f"compare.methods.{method.name}"
    spec: Mapping[str, Any] = method.mixture or {}
    plugin: object = build(spec, object, name=method.name)
    if isinstance(plugin, MixtureMethod):
        n, budget = plugin.count_trials(method.cfg), method.cfg.compare.budget
        if n > budget:
            raise ConfigError(
                f"{where} needs {n:g} trials; compare.budget is {budget}: raise the budget, or "
                "lower the trials of this method"
            )
        return plugin
    if isinstance(plugin, Baseline):
        return plugin
    raise ConfigError(
        f"{where}: {spec.get('use')!r} must have make_mixture (a Baseline), or "
        "find_mixture and count_trials (a MixtureMethod)"
    )


def make_mixture(store: Store, method: Method, seed: int) -> FoundMixture:
    """Make the mixture of a method that has no search."""
    plugin, cfg = build_plugin(method), method.configure(seed)
    if isinstance(plugin, MixtureMethod):
        return plugin.find_mixture(store, cfg)
    space = read_space(store, cfg)
    return FoundMixture(weights_to_dict(space.domains, plugin.make_mixture(space)))


def read_searched(store: Store, cfg: Config) -> FoundMixture:
    """Read the recommendation of a finished search, and count its trials and tokens.

    The tokens are the configured tokens of all trials. With halving, they are only the tokens that
    the trials were trained on.
    """
    [row] = store.read_rows(tables.MIXTURES, search=cfg.search.name, method=RECOMMENDED)
    where = f"table mixtures, search {cfg.search.name!r}"
    result = SearchResult.from_json(row["result"] or "", where)
    n = len(result.plan)
    n_tokens = result.halving.n_tokens if result.halving else n * cfg.proxy.trial_tokens
    ids = tuple(part.trial_id for part in result.plan)
    return FoundMixture(result.recommended.weights, n, n_tokens, ids)

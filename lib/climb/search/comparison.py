"""The methods of a comparison, each with its own configuration, and their equal budgets.

    for method in plan_comparison(cfg):
        method.configure(seed)          # the configuration of its search with this seed

A method needs no code. Section `compare` lists the names of the methods. Under each name, it sets
the keys of section `search` whose values differ for this method. An ablation is a comparison whose
methods have different values of one key or a few keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from climb.config import Config, change
from climb.config.sections import SearchConfig
from climb.errors import ConfigError
from climb.search.baselines import build_baselines, count_replicates


@dataclass(frozen=True)
class Method:
    """One row of a comparison."""

    name: str
    label: str
    comparison: str
    cfg: Config
    mixture: Mapping[str, Any] | None = None
    """Plug-in that makes the method's mixture; None: the mixture is searched."""

    first_job: str | None = None
    """The pipeline is run again for this method from this job on, and writes tables that only this
    method uses. None: no job is run again, and the method reads the tables of the main pipeline."""

    def configure(self, seed: int) -> Config:
        """Return the configuration of one search with this method.

        A comparison repeats the search with several values of `seed`. Each value is added to the
        configured seed, and becomes part of the name of the search.
        """
        search = self.cfg.search
        named = {"name": f"{self.comparison}.{self.name}.{seed}", "seed": search.seed + seed}
        return self.cfg.model_copy(update={"search": search.model_copy(update=named)})

    @property
    def n_trials(self) -> int:
        """Number of trials of the method's search, replicates included.

        If a plug-in makes the mixture, the number is 0, because the plug-in counts its own trials.
        """
        return 0 if self.mixture is not None else count_trials(self.cfg.search)


def plan_comparison(cfg: Config) -> list[Method]:
    """List the methods of section `compare`.

    Raises:
        ConfigError: no method is configured, a setting is wrong, or the budget is too small for a
            method.
    """
    section, methods = cfg.compare, []
    for name, method in section.methods.items():
        if method is None:
            continue
        where = f"compare.methods.{name}"
        # Mixture reuse is off, because its trials are not part of the budget.
        own = change(cfg, {"search": {**method.search, "reuse_min_kept": None}}, where)
        if method.mixture is None:
            own = _scale_rounds(own, section.budget, where)
        label = method.label or name
        methods.append(Method(name, label, section.name, own, method.mixture))
    if not methods:
        raise ConfigError("compare.methods is empty or has only nulls; name at least one method")
    return methods


def plan_ablation(cfg: Config) -> list[Method]:
    """List the rows of section `ablate`.

    Raises:
        ConfigError: no row is configured, a value is wrong, or the budget is too small for a row.
    """
    section, methods = cfg.ablate, []
    for name, values in section.values.items():
        where, own = f"ablate.values.{name}", cfg
        for key, value in zip(section.keys, values, strict=True):
            own = change(own, _nest(key, value), where)
        if section.budget is not None:
            own = _scale_rounds(own, section.budget, where)
        own = change(own, {"search": {"reuse_min_kept": None}}, where)
        methods.append(
            Method(name, name, section.name, own, first_job=find_first_job(section.keys))
        )
    if not methods:
        raise ConfigError(
            "ablate.values is empty; name the values of ablate.keys, as conf/ablations/*.yaml do"
        )
    return methods


def find_first_job(keys: Sequence[str]) -> str | None:
    """Return the first job up to `pack` that depends on these keys; None if none does."""
    sections = {key.partition(".")[0] for key in keys}
    for job in ("cluster", "prune"):  # these jobs have the names of their sections
        if job in sections:
            return job
    tokens = {"proxy.base_tokens", "proxy.trial_tokens", "proxy.match_repetition"}
    return "pack" if tokens & set(keys) else None


def count_trials(search: SearchConfig) -> int:
    """Count the trials of a search: proposals, baselines and replicates of the recommendation."""
    return sum(search.trials_per_round) + count_fixed_trials(search)


def count_fixed_trials(search: SearchConfig) -> int:
    """Count the trials that are not proposals."""
    baselines = build_baselines(search.baselines)
    return search.replicates + sum(count_replicates(b, search.replicates) for b in baselines)


def split_budget(budget: int, ratio: Sequence[int]) -> tuple[int, ...]:
    """Divide trials among rounds in a ratio; each round has at least one.

    Raises:
        ConfigError: there are fewer trials than rounds.
    """
    if budget < len(ratio):
        raise ConfigError(f"{budget} trials are too few for {len(ratio)} rounds")
    exact = [budget * part / sum(ratio) for part in ratio]
    whole = [max(1, int(part)) for part in exact]
    while sum(whole) != budget:
        step = 1 if sum(whole) < budget else -1
        gaps = [
            step * (e - w) if w + step >= 1 else -math.inf
            for e, w in zip(exact, whole, strict=True)
        ]
        whole[gaps.index(max(gaps))] += step
    return tuple(whole)


def _scale_rounds(cfg: Config, budget: int, where: str) -> Config:
    """Scale the rounds of a search, so that the number of all its trials is `budget`."""
    search = cfg.search
    fixed = count_fixed_trials(search)
    try:
        rounds = split_budget(budget - fixed, search.trials_per_round)
    except ConfigError as error:
        raise ConfigError(
            f"{where}: the budget is {budget} trials; baselines and replicates need {fixed} of "
            f"them, and each of {len(search.trials_per_round)} rounds needs at least one: raise "
            "the budget, or lower search.replicates"
        ) from error
    return change(cfg, {"search": {"trials_per_round": rounds}}, where)


def _nest(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)

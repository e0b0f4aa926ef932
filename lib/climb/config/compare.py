"""Configuration sections `compare` and `ablate`. Their values are in conf/default.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from climb.config.section import PluginSpec, Section

NAME = r"^[\w.-]+$"
"""Pattern of names that become part of the name of a search."""

FIXED = ("name", "seed", "objective", "target_tokens", "reuse_min_kept")
"""Keys of section `search` that a method cannot set. `name` is one of them, because `compare.name`
determines the names of a comparison's searches."""

_NO_REUSE = "a comparison reuses no runs of earlier domains: they would be trials beyond the budget"


class MethodConfig(Section):
    """A method of a comparison: a search with other settings, or a plug-in that gives a mixture."""

    label: str | None = None
    """Name of the method that tables show; null: its key in `methods`. May be left out."""

    search: dict[str, Any] = Field(default={})
    """Keys of section `search` with other values for this method. Of `trials_per_round`,
    only the ratios between the rounds matter: it is scaled so that the method has `compare.budget`
    trials in total. May be left out."""

    mixture: PluginSpec | None = None
    """A baseline (`climb.search.baselines`), or a `MixtureMethod`
    (`climb.spark.training.methods`); null: the mixture is searched. May be left out."""

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if self.mixture is not None and self.search:
            raise ValueError("a method has either `mixture` or `search`, not both")
        fixed = [key for key in FIXED if key in self.search]
        if fixed:
            remedy = "all methods share this key; set it in section `search` of the configuration"
            if fixed[0] == "name":
                remedy = "names are made from compare.name; remove it here"
            elif fixed[0] == "reuse_min_kept":
                remedy = f"{_NO_REUSE}; remove it here"
            raise ValueError(f"a method cannot set search.{fixed[0]}: {remedy}")
        return self


class CompareConfig(Section):
    """A comparison of methods: equal budgets, the same target models, several seeds."""

    name: str = Field(pattern=NAME)
    """Key in table `comparisons`, and first part of the names of its searches."""

    methods: dict[str, MethodConfig | None]
    """Rows of the table, in this order; null leaves a method out."""

    budget: PositiveInt
    """Trials of each method, replicates included."""

    seeds: PositiveInt
    """Repetitions. Each has its own seed of the search and of the target model; an interval needs
    at least 2."""

    vary: str | None
    """Key of section `search`, for example `search.predictor`. For each of its values in `values`,
    a surrogate is fitted to the trials of the search `search.name`; nothing is trained. null:
    methods are compared."""

    values: dict[str, dict[str, Any]]
    """Key -> name -> value: the values that `vary` compares."""

    @field_validator("methods")
    @classmethod
    def _check_names(cls, value: dict[str, MethodConfig | None]) -> dict[str, MethodConfig | None]:
        _check_names(value)
        return value

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        owners: dict[str, str] = {}
        for name, method in self.methods.items():
            if method is None:
                continue
            label = method.label or name
            if label in owners:
                raise ValueError(
                    f"the methods {owners[label]!r} and {name!r} both have the label {label!r}; "
                    "set another label for one of them"
                )
            owners[label] = name
        return self

    @model_validator(mode="after")
    def _check_vary(self) -> Self:
        if self.vary is not None and self.vary not in self.values:
            raise ValueError(
                f"vary is {self.vary!r}, but `values` has only the keys {sorted(self.values)}"
            )
        return self


class AblateConfig(Section):
    """An ablation: the whole method with several values of one key, or of a few keys together."""

    name: str = Field(pattern=NAME)
    """Key in table `ablations`, and first part of the names of its searches."""

    keys: tuple[str, ...]
    """The keys that vary, for example [search.trials_per_round]. They must be keys of the sections
    cluster, prune, proxy and search."""

    values: dict[str, tuple[Any, ...]]
    """Name of a row -> a value per key. If a key names a plug-in, its value
    may be a mapping with some of the plug-in's fields; its other fields then stay."""

    budget: PositiveInt | None
    """Trials of every row: `search.trials_per_round` is scaled to this number, as by
    `compare.budget`. null: `search.trials_per_round` is not scaled."""

    seeds: PositiveInt
    """As `compare.seeds`."""

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        _check_names(self.values)
        for key in self.keys:
            section, _, rest = key.partition(".")
            if section not in ("cluster", "prune", "proxy", "search") or not rest:
                raise ValueError(
                    f"keys has {key!r}; an ablation varies keys of cluster, prune, proxy or search"
                )
            if key in (f"search.{fixed}" for fixed in FIXED):
                reason = ", which all rows share"
                if key == "search.reuse_min_kept":
                    reason = f", but {_NO_REUSE}"
                raise ValueError(f"keys has {key!r}{reason}; remove it from keys")
        for name, row in self.values.items():
            if len(row) != len(self.keys):
                raise ValueError(f"values.{name} has {len(row)} values for {len(self.keys)} keys")
        return self


def _check_names(named: Mapping[str, object]) -> None:
    for name in named:
        if not re.fullmatch(NAME, name):
            raise ValueError(f"the name {name!r} must consist of letters, digits, _, . and -")

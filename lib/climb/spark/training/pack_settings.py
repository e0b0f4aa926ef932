"""The settings that shards are packed for: what job `pack` records, and whether shards fit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from climb import tables
from climb.config import Config
from climb.spark.delta.store import Store
from climb.spark.training.pack import Kind, plan_shards

TOKEN_KEYS: Mapping[Kind, tuple[str, ...]] = {
    "base": ("proxy.base_tokens",),
    "trial": ("proxy.trial_tokens", "proxy.match_repetition", "search.target_tokens"),
    "target-base": ("train.base_tokens",),
    "target": ("train.tokens", "search.target_tokens"),
}
"""Kind of shards -> the keys that determine their sizes."""


def list_pack_settings(cfg: Config) -> dict[str, Any]:
    """List the settings that the commit of table `shards` records."""
    # `match_repetition: true`, the default, is left out. So shards that an earlier version of climb
    # packed stay up to date.
    unmatched = {} if cfg.proxy.match_repetition else {"match_repetition": False}
    return {
        "tokenizer": [cfg.count.recipe, cfg.count.end_of_text],
        "base_tokens": [cfg.proxy.base_tokens, cfg.train.base_tokens],
        "run_tokens": [cfg.proxy.trial_tokens, cfg.train.tokens, cfg.search.target_tokens],
        **unmatched,
    }


def find_other_settings(
    store: Store, cfg: Config, domains: list[tables.Row], kinds: Sequence[Kind]
) -> str | None:
    """Compare the configuration with the settings that the shards were packed for.

    Settings that change no size of these shards may differ. Shards without recorded settings, or
    with settings that another version of climb recorded in another form, are accepted.

    Args:
        store: table `shards` is read.
        cfg: the configuration.
        domains: rows of table `domains`.
        kinds: of the shards.

    Returns:
        An error message; None if the shards fit.
    """
    inputs = store.history.read_inputs(tables.SHARDS)
    before = _restore(cfg, inputs["settings"]) if inputs else None
    if before is None:
        return None
    if plan_shards(domains, before, kinds) == plan_shards(domains, cfg, kinds):
        return None
    keys = [key for kind in kinds for key in TOKEN_KEYS[kind]]
    was, now = ({key: _look_up(values, key) for key in keys} for values in (before, cfg))
    changed = [key for key in was if was[key] != now[key]]
    return (
        f"table shards was packed for {_join(was, changed)}, but the configuration has "
        f"{_join(now, changed)}; run `climb pack` first"
    )


def _restore(cfg: Config, settings: Mapping[str, Any]) -> Config | None:
    """Return the configuration with recorded settings; None if another version recorded them."""
    try:
        base, target_base = settings["base_tokens"]
        trial, target, target_tokens = settings["run_tokens"]
    except (KeyError, ValueError):
        return None
    proxy = {"base_tokens": base, "trial_tokens": trial}
    proxy["match_repetition"] = settings.get("match_repetition", True)
    changes = {
        "proxy": proxy,
        "train": {"base_tokens": target_base, "tokens": target},
        "search": {"target_tokens": target_tokens},
    }
    sections = {name: getattr(cfg, name).model_copy(update=c) for name, c in changes.items()}
    return cfg.model_copy(update=sections)


def _look_up(cfg: Config, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(cfg, section), name)


def _join(values: Mapping[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(f"{key}={values[key]}" for key in keys)

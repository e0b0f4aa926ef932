"""The fixed surroundings of a series of runs: a model, its shared base, its shards, its targets.

The search trains trials on one bench; `train` tests the answer with a larger model on another.
A run is named by everything that decides its metrics, so a recorded run is never trained again and
a changed recipe, corpus or target never meets old results.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from climb import tables, tokenizer
from climb.config import Config, build, recipe_of
from climb.errors import ComponentError, TableError
from climb.files import content_digest, replacing, resolve
from climb.progress import say
from climb.proxy import Proxy, ProxyRun, Target
from climb.spark.store import Store
from climb.spark.tokens import tokenizer_json
from climb.spark.trials import train_all

TRIAL_KINDS = ("base", "trial")
"""Shards that the search's runs read."""

BASE_SEED = 0
"""The base is shared, so it has one seed; trials differ in theirs."""


@dataclass(frozen=True)
class Bench:
    """Everything about a run but its mixture and its seed."""

    proxy: Proxy
    natural: Mapping[str, float]
    shards: Mapping[str, str]
    base_shards: Mapping[str, str]
    data: str
    """Digest of the token ids of all shards."""

    base_data: str
    """Digest of the base's alone: other trials leave the base as it is."""

    tokenizer: str
    base_tokens: int
    n_tokens: int
    checkpoint_steps: int
    targets: tuple[Target, ...]
    files: Path

    @property
    def recipe(self) -> str:
        """Names the model, its training and what it is measured on."""
        measured = [
            [t.name, t.kind, t.limit, content_digest(resolve(t.path))] for t in self.targets
        ]
        made_with = [recipe_of(self.proxy), self.base_tokens, self.n_tokens, measured]
        return f"{recipe_of(self.proxy)}-{_digest(made_with)}"

    @property
    def base(self) -> Path:
        """Folder of the shared base."""
        natural = sorted((name, round(weight, 12)) for name, weight in self.natural.items())
        made_with = [recipe_of(self.proxy), self.base_data, self.base_tokens, natural]
        return self.files / "proxies" / f"base-{_digest(made_with)}"

    def name(self, weights: Mapping[str, float], seed: int) -> str:
        """Id of the run that trains on this mixture with this seed."""
        mixture = sorted((name, round(weight, 12)) for name, weight in weights.items())
        return _digest([mixture, seed, self.recipe, self.data])

    def run(self, weights: Mapping[str, float], seed: int) -> ProxyRun:
        """The run of this mixture: continue the base, keep no model."""
        return ProxyRun(
            weights=dict(weights),
            shards=dict(self.shards),
            tokenizer=self.tokenizer,
            n_tokens=self.n_tokens,
            seed=seed,
            start=str(self.base),
            save=None,
            checkpoints=str(self.files / "checkpoints" / self.name(weights, seed)),
            checkpoint_steps=self.checkpoint_steps,
            targets=self.targets,
        )

    def base_run(self) -> ProxyRun:
        """The run that makes the base: natural proportions, from random weights."""
        return ProxyRun(
            weights=dict(self.natural),
            shards=dict(self.base_shards),
            tokenizer=self.tokenizer,
            n_tokens=self.base_tokens,
            seed=BASE_SEED,
            start=None,
            save=str(self.base),
            checkpoints=str(self.files / "checkpoints" / self.base.name),
            checkpoint_steps=self.checkpoint_steps,
            targets=(),
        )


def trial_bench(store: Store, cfg: Config) -> Bench:
    """The search's bench: the proxy, measured on the items that the search may see."""
    targets = tuple(
        Target(name=t.name, kind=t.kind, path=t.search, limit=t.limit) for t in cfg.proxy.targets
    )
    sizes = (cfg.proxy.base_tokens, cfg.proxy.trial_tokens)
    return _bench(store, cfg, build(cfg.proxy.model, Proxy), TRIAL_KINDS, sizes, targets)


def target_bench(store: Store, cfg: Config) -> Bench:
    """The test's bench: the larger model, measured on the items that the search never saw."""
    targets = tuple(
        Target(name=t.name, kind=t.kind, path=t.report, limit=t.limit)
        for t in cfg.proxy.targets
        if t.report is not None
    )
    sizes = (cfg.train.base_tokens, cfg.train.tokens)
    kinds = ("target-base", "target")
    return _bench(store, cfg, build(cfg.train.model, Proxy), kinds, sizes, targets)


def data_of(shards: Sequence[Mapping[str, Any]], kinds: Sequence[str] = TRIAL_KINDS) -> str:
    """Digest of the token ids in the shards of these kinds: what `Bench.data` names a corpus by."""
    taken = [[row["kind"], row["domain"], row["sha256"]] for row in shards if row["kind"] in kinds]
    return _digest(sorted(taken))


def ensure_base(store: Store, bench: Bench) -> None:
    """Train the shared base if it is not there yet.

    Raises:
        ComponentError: its loss became NaN, or its worker was lost; no trial can start from it.
    """
    if bench.base.is_dir():
        return
    run = (bench.base.name, bench.base_run())
    for outcome in train_all(store.session, bench.proxy, [run], slots=1):
        if outcome.status != "finished":
            raise ComponentError(f"the shared base {outcome.status}: {outcome.error}")
        say("base", f"{bench.base_tokens:,} tokens  ({outcome.seconds:.1f} s)")


def _bench(
    store: Store,
    cfg: Config,
    proxy: Proxy,
    kinds: tuple[str, str],
    sizes: tuple[int, int],
    targets: tuple[Target, ...],
) -> Bench:
    domains = store.rows(tables.DOMAINS)
    rows = [row for row in store.rows(tables.SHARDS) if row["kind"] in kinds]
    base_rows, run_rows = ([row for row in rows if row["kind"] == kind] for kind in kinds)
    names = {row["domain"] for row in domains}
    if {row["domain"] for row in run_rows} != names:
        raise TableError(
            f"table shards holds {kinds[1]} shards of {sorted(row['domain'] for row in run_rows)}, "
            f"but the domains are {sorted(names)}; run `climb pack` first"
        )
    return Bench(
        proxy=proxy,
        natural={row["domain"]: row["token_share"] for row in domains},
        shards={row["domain"]: row["path"] for row in run_rows},
        base_shards={row["domain"]: row["path"] for row in base_rows},
        data=data_of(rows, kinds),
        base_data=_digest([[row["domain"], row["sha256"]] for row in base_rows]),
        tokenizer=str(_tokenizer_file(store, cfg)),
        base_tokens=sizes[0],
        n_tokens=sizes[1],
        checkpoint_steps=cfg.proxy.checkpoint_steps,
        targets=targets,
        files=store.files("models"),
    )


def _tokenizer_file(store: Store, cfg: Config) -> Path:
    text = tokenizer_json(store, cfg).encode()
    # By content: another run that keeps its files here may have trained another one.
    name = f"{tokenizer.recipe(cfg.count)}-{hashlib.sha256(text).hexdigest()[:12]}.json"
    path = store.files("shards") / name
    if not path.exists():
        with replacing(path) as stream:
            stream.write(text)
    return path


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

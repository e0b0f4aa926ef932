"""The training setup of a series of runs: model, base checkpoint, shards and targets.

The search trains trials with one setup; `train` tests the recommendation with a larger model and
another setup. A run's name depends on everything that its metrics depend on. So a recorded run is
never trained again, and results of an earlier recipe, corpus or target are never reused by mistake.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from climb import tables
from climb.config import Config, build, recipe_of
from climb.errors import TableError
from climb.files import LocalCopies, hash_content, is_complete, resolve, write_if_changed
from climb.mixture import SAME_DECIMALS
from climb.progress import log
from climb.proxy import Proxy, ProxyRun, Target
from climb.proxy.items import exclude_reported, list_targets
from climb.spark.corpus.count import read_tokenizer_json
from climb.spark.delta.store import Store
from climb.spark.shared import check_shared
from climb.spark.slots import Slots
from climb.spark.training.pack import Kind
from climb.spark.training.pack_settings import find_other_settings
from climb.spark.training.trials import train_required
from climb.spark.training.watch import WatchSettings
from climb.tokenizer import TokenizerFile, find_end_of_text, open_tokenizer

TRIAL_KINDS: tuple[Kind, Kind] = ("base", "trial")
"""Kinds of the shards that the runs of the search read."""

TARGET_KINDS: tuple[Kind, Kind] = ("target-base", "target")
"""Kinds of the shards that target models read."""

BASE_SEED = 0
"""The base checkpoint is shared, so it has one seed; the seeds of trials differ."""


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that defines a training run, except its mixture and its seed."""

    proxy: Proxy
    natural: Mapping[str, float]
    """Domain -> weight in the natural mixture."""

    shards: Mapping[str, str]
    """Domain -> path of the shard that runs train on."""

    base_shards: Mapping[str, str]
    """Domain -> path of the shard that the base checkpoint is trained on."""

    corpus_digest: str
    """Digest of the token ids of all shards."""

    base_digest: str
    """Digest of the base shards alone: the base checkpoint does not depend on the trial shards."""

    tokenizer: TokenizerFile

    base_tokens: int
    n_tokens: int
    """Tokens of one run."""

    checkpoint_steps: int
    targets: tuple[Target, ...]
    files: Path
    """Folder of checkpoints."""

    hung_minutes: float | None = None
    """Minutes without progress after which a run counts as hung; None: no limit."""

    local_copies: LocalCopies | None = None
    processes: int = 1
    """Processes that train one model together."""

    curve_steps: int | None = None
    """Steps between two points of learning curves; None: there are no curves."""

    evaluate_steps: int | None = None
    """Steps between two evaluations during training; None: there are none."""

    kept_models: Path | None = None
    """Folder of the trained models; None: they are not kept."""

    other_settings: str | None = None
    """Error message that stops training if the shards were packed for other settings; else None."""

    @cached_property
    def recipe(self) -> str:
        """Name that identifies the model, its training and its targets."""
        measured = [_describe_target(target) for target in self.targets]
        model = recipe_of(self.proxy)
        trained = [model, self.base_tokens, self.n_tokens, measured, *self._describe_processes()]
        return f"{model}-{digest_values(trained)}"

    def _describe_processes(self) -> list[Any]:
        """Describe several processes; [] for one, so that names of earlier versions stay valid."""
        return [] if self.processes == 1 else [f"{self.processes} processes"]

    @cached_property
    def base_folder(self) -> Path:
        """Folder of the base checkpoint."""
        natural = _list_weights(self.natural)
        made_with = [recipe_of(self.proxy), self.base_digest, self.base_tokens, natural]
        name = digest_values([*made_with, *self._describe_processes()])
        return self.files / "proxies" / f"base-{name}"

    def name_run(self, weights: Mapping[str, float], seed: int) -> str:
        """Return the id of the run that trains on this mixture with this seed."""
        return digest_values([_list_weights(weights), seed, self.recipe, self.corpus_digest])

    def locate_model(self, name: str) -> Path | None:
        """Return the folder of the trained model of a run; None if it is not kept."""
        return None if self.kept_models is None else self.kept_models / name

    def build_run(self, weights: Mapping[str, float], seed: int) -> ProxyRun:
        """Build the run of this mixture, which continues the base checkpoint."""
        name = self.name_run(weights, seed)
        checkpoints, folder = str(self.files / "checkpoints" / name), self.locate_model(name)
        return ProxyRun(
            weights=dict(weights),
            shards=dict(self.shards),
            tokenizer=self.tokenizer,
            n_tokens=self.n_tokens,
            seed=seed,
            start=str(self.base_folder),
            save=None if folder is None else str(folder),
            checkpoints=checkpoints,
            checkpoint_steps=self.checkpoint_steps,
            local_copies=self.local_copies,
            targets=self.targets,
            processes=self.processes,
            curve=None if self.curve_steps is None else f"{checkpoints}.curve",
            curve_steps=self.curve_steps or 1,
            evaluate_steps=self.evaluate_steps,
        )

    def build_base_run(self) -> ProxyRun:
        """Build the run of the base checkpoint: the natural mixture, from random parameters."""
        return ProxyRun(
            weights=dict(self.natural),
            shards=dict(self.base_shards),
            tokenizer=self.tokenizer,
            n_tokens=self.base_tokens,
            seed=BASE_SEED,
            start=None,
            save=str(self.base_folder),
            checkpoints=str(self.files / "checkpoints" / self.base_folder.name),
            checkpoint_steps=self.checkpoint_steps,
            local_copies=self.local_copies,
            targets=(),
            processes=self.processes,
        )


def _list_weights(weights: Mapping[str, float]) -> list[tuple[str, float]]:
    """List the domains and weights after rounding to `SAME_DECIMALS`, without weights of 0."""
    rounded = {name: round(weight, SAME_DECIMALS) for name, weight in weights.items()}
    return sorted((name, weight) for name, weight in rounded.items() if weight)


def build_trial_setup(store: Store, cfg: Config) -> TrainingSetup:
    """Build the setup of the search: the proxy, measured on the targets' `search` items.

    Items that are also report items of any target are left out.

    Raises:
        TableError: the shards are missing, or of other domains.
        InputError: a file of items cannot be read, or all its items are report items too.
    """
    report = list_targets(cfg.proxy, "report")
    targets, n_dropped = exclude_reported(list_targets(cfg.proxy, "search"), report)
    for name, n in n_dropped.items():
        log("targets", f"{name}: {n:,} search items are report items too, and are left out")
    sizes = (cfg.proxy.base_tokens, cfg.proxy.trial_tokens)
    return _build_setup(store, cfg, build(cfg.proxy.model, Proxy), TRIAL_KINDS, sizes, targets)


def build_target_setup(store: Store, cfg: Config) -> TrainingSetup:
    """Build the setup of job `train`: the target model, measured on the targets' `report` items.

    Raises:
        TableError: the shards are missing, or of other domains.
    """
    targets = list_targets(cfg.proxy, "report")
    sizes = (cfg.train.base_tokens, cfg.train.tokens)
    setup = _build_setup(store, cfg, build(cfg.train.model, Proxy), TARGET_KINDS, sizes, targets)
    return replace(
        setup,
        processes=cfg.train.processes,
        curve_steps=cfg.train.curve_steps,
        evaluate_steps=cfg.train.evaluate_steps,
        kept_models=setup.files / "targets" if cfg.train.keep_models else None,
    )


def digest_corpus(shards: Sequence[Mapping[str, Any]], kinds: Sequence[str] = TRIAL_KINDS) -> str:
    """Return the corpus digest: a hash of the token ids in the shards of these kinds."""
    chosen = [[row["kind"], row["domain"], row["sha256"]] for row in shards if row["kind"] in kinds]
    return digest_values(sorted(chosen))


def ensure_base_checkpoint(store: Store, setup: TrainingSetup, slots: Slots) -> bool:
    """Train the base checkpoint unless its folder is complete; return whether it was trained.

    A job calls this function before it trains anything else.

    Args:
        store: has the session.
        setup: what is trained.
        slots: what `plan_slots` or `plan_process_slots` returned; the run takes one slot.

    Raises:
        TableError: the shards were packed for other numbers of tokens.
        TrialError: the loss became NaN.
        ResourceError: memory ran out.
        InfrastructureError: the worker was lost; the next start continues the training.
        PreflightError: an executor does not see the folder of files.
    """
    check_shared(store.session, store.cfg.files_folder)
    if setup.other_settings is not None:
        raise TableError(setup.other_settings)
    if is_complete(setup.base_folder):
        return False
    run = (setup.base_folder.name, setup.build_base_run())
    watch = WatchSettings("base", setup.hung_minutes)
    seconds = train_required(store.session, setup.proxy, run, slots, watch, "the base checkpoint")
    log("base", f"{setup.base_tokens:,} tokens  ({seconds:.1f} s)")
    return True


def _build_setup(
    store: Store,
    cfg: Config,
    proxy: Proxy,
    kinds: tuple[Kind, Kind],
    sizes: tuple[int, int],
    targets: tuple[Target, ...],
) -> TrainingSetup:
    domains = store.read_rows(tables.DOMAINS)
    rows = [row for row in store.read_rows(tables.SHARDS) if row["kind"] in kinds]
    base_rows, run_rows = ([row for row in rows if row["kind"] == kind] for kind in kinds)
    names = {row["domain"] for row in domains}
    if {row["domain"] for row in run_rows} != names:
        raise TableError(
            f"table shards has {kinds[1]} shards of {sorted(row['domain'] for row in run_rows)}, "
            f"but the domains are {sorted(names)}; run `climb pack` first"
        )
    return TrainingSetup(
        proxy=proxy,
        natural={row["domain"]: row["token_share"] for row in domains},
        shards={row["domain"]: row["path"] for row in run_rows},
        base_shards={row["domain"]: row["path"] for row in base_rows},
        corpus_digest=digest_corpus(rows, kinds),
        base_digest=digest_values([[row["domain"], row["sha256"]] for row in base_rows]),
        tokenizer=_write_tokenizer(store, cfg),
        base_tokens=sizes[0],
        n_tokens=sizes[1],
        checkpoint_steps=cfg.proxy.checkpoint_steps,
        # A task of an executor has another working folder than the driver.
        targets=tuple(
            replace(target, path=str(Path(target.path).absolute())) for target in targets
        ),
        files=store.locate_file("models"),
        hung_minutes=cfg.proxy.hung_minutes,
        local_copies=cfg.storage.local_copies,
        other_settings=find_other_settings(store, cfg, domains, kinds),
    )


def _write_tokenizer(store: Store, cfg: Config) -> TokenizerFile:
    """Write the tokenizer as a file, unless it exists."""
    tokenizer = open_tokenizer(read_tokenizer_json(store, cfg))
    # Models are saved with this file, so it has no truncation or padding of the original file.
    text = tokenizer.to_str().encode()
    # The name has a hash of the content, because storage roots may share this folder, and may have
    # trained different tokenizers, on different documents, with the same `count.recipe`.
    name = f"{cfg.count.recipe}-{hashlib.sha256(text).hexdigest()[:12]}.json"
    path = store.locate_file("shards") / name
    write_if_changed(path, text)
    return TokenizerFile(str(path), find_end_of_text(tokenizer, cfg.count.end_of_text))


def _describe_target(target: Target) -> list[Any]:
    """Describe a target; empty `where` or `excluded` add nothing, so older names stay valid."""
    described = [target.name, target.kind, target.limit, hash_content(resolve(target.path))]
    return [*described, *(field for field in (target.where, target.excluded) if field)]


def digest_values(value: Any) -> str:
    """Hash a JSON value, for names of files and runs."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]

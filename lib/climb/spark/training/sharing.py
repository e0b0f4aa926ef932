"""How many trials share a GPU: as many as fit, by the memory that finished trials needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from climb import tables
from climb.config.sections import SparkConfig
from climb.progress import log
from climb.proxy import Proxy
from climb.spark.delta.store import Store
from climb.spark.device import shares_local_gpu
from climb.spark.slots import Slots, plan_slots
from climb.spark.training.task import Outcome
from climb.spark.training.trials import NamedRun, train_batches
from climb.spark.training.watch import WatchSettings

MEMORY_SHARE = 0.9
"""Share of a GPU's memory that trials may need together. The rest is for what differs between
trials, such as the lengths of their texts."""


@dataclass(frozen=True)
class TrialSlots:
    """The slots of trials, and how many trials may start before the slots are planned again."""

    slots: Slots
    n_first: int | None = None
    """Number of trials that show how much memory a trial needs; None: all trials get `slots`."""


def plan_trials(store: Store, cfg: SparkConfig, recipe: str, n_runs: int) -> TrialSlots:
    """Plan how many trials share a GPU: `spark.trials_per_gpu`, or as many as its memory allows.

    Args:
        store: its tables `trials` and `rungs` have the GPU memory that finished trials needed.
        cfg: section spark.
        recipe: of the trials, `TrainingSetup.recipe`.
        n_runs: number of trials to train.

    Raises:
        ConfigError: the shares of GPUs and cores do not fit the executors.
    """
    session = store.session
    if cfg.trials_per_gpu is not None:
        return TrialSlots(plan_slots(session, cfg, cfg.trials_per_gpu))
    gpus = plan_slots(session, cfg.model_copy(update={"parallel_trials": None}))
    if gpus.max_per_gpu is None:
        return TrialSlots(plan_slots(session, cfg))
    is_local = shares_local_gpu(session)
    shares = _read_gpu_shares(store, recipe)
    if not shares:
        whole = plan_slots(session, _limit_parallel(cfg, 1) if is_local else cfg)
        return TrialSlots(whole, n_first=whole.count)
    most = max((share for share in shares if share is not None), default=None)
    n_trials = choose_trials_per_gpu(most, gpus.max_per_gpu)
    # Spark fills a GPU before it uses the next one. If there are few trials, fewer of them share a
    # GPU, so that all GPUs are busy.
    n_active = min(n_runs, cfg.parallel_trials or n_runs)
    n_trials = min(n_trials, math.ceil(n_active / gpus.count))
    if is_local:
        cfg = _limit_parallel(cfg, n_trials)
    elif gpus.profile is None:
        _log_sharing(most, n_trials, "could share a GPU (spark.task.resource.gpu.amount)")
        return TrialSlots(plan_slots(session, cfg))
    _log_sharing(most, n_trials, "share a GPU (spark.trials_per_gpu)")
    return TrialSlots(plan_slots(session, cfg, n_trials))


def _limit_parallel(cfg: SparkConfig, n: int) -> SparkConfig:
    """Limit the trials that run at the same time; nothing else limits them in local mode."""
    return cfg.model_copy(update={"parallel_trials": min(n, cfg.parallel_trials or n)})


def _log_sharing(share: float | None, n_trials: int, what: str) -> None:
    if n_trials > 1:
        log("search", f"a trial needs {share:.1%} of a GPU's memory: {n_trials} trials {what}")


def choose_trials_per_gpu(share: float | None, max_trials: int) -> int:
    """Choose how many trials share a GPU.

    Args:
        share: largest share of a GPU's memory that a finished trial needed; None: trials use no
            GPU through torch, so their memory is unknown.
        max_trials: maximum trials for each GPU. This is the number of CPU cores for each GPU,
            because each trial needs a core.
    """
    if share is None:
        return 1
    return max(1, min(max_trials, int(MEMORY_SHARE / share)))


def train_trials(
    store: Store,
    cfg: SparkConfig,
    recipe: str,
    proxy: Proxy,
    runs: Sequence[NamedRun],
    watch: WatchSettings | None = None,
) -> Iterator[list[Outcome]]:
    """Train runs as `train_batches` does, in slots of `plan_trials`.

    The caller records a batch before it asks for the next: the memory that the first runs needed
    decides how many of the later runs share a GPU.

    Raises:
        ClimbError, RuntimeError: as for `train_batches`.
    """
    while runs:
        planned = plan_trials(store, cfg, recipe, len(runs))
        n = planned.n_first or len(runs)
        part, runs = runs[:n], runs[n:]
        yield from train_batches(store.session, proxy, part, planned.slots, watch)


def _read_gpu_shares(store: Store, recipe: str) -> list[float | None]:
    """Return the share of GPU memory that each finished trial of a recipe needed."""
    rows = [
        row
        for table in (tables.TRIALS, tables.RUNGS)
        if store.exists(table)
        for row in store.read_rows(table, proxy=recipe)
    ]
    # Rows of table `rungs` have no status: they are written only for trials that did not fail.
    return [row["gpu_share"] for row in rows if row.get("status") != "failed"]

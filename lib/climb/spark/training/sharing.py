"""How many trials share a GPU: as many as fit into the memory that finished trials needed."""

from __future__ import annotations

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
from climb.spark.training.trials import NamedRun, train_runs
from climb.spark.training.watch import WatchSettings

MEMORY_SHARE = 0.9
"""Share of a GPU's memory that trials may need together. The rest is for what differs between
trials, such as the lengths of their texts."""


@dataclass(frozen=True)
class TrialSlots:
    """The slots of trials, and how many trials may start before they are planned again."""

    slots: Slots
    n_first: int | None = None
    """Trials that show how much memory a trial needs; None: all trials get these slots."""


def plan_trials(store: Store, cfg: SparkConfig, recipe: str) -> TrialSlots:
    """Plan the trials that share a GPU: `spark.trials_per_gpu`, or as many as its memory allows.

    Args:
        store: its tables `trials` and `rungs` have what finished trials needed.
        cfg: section spark.
        recipe: of the trials, `TrainingSetup.recipe`.

    Raises:
        ConfigError: the shares of GPUs and cores do not fit the executors.
    """
    session = store.session
    if cfg.trials_per_gpu is not None:
        return TrialSlots(plan_slots(session, cfg, cfg.trials_per_gpu))
    whole = plan_slots(session, cfg)
    if whole.max_per_gpu is None:
        return TrialSlots(whole)
    shares = _read_gpu_shares(store, recipe)
    if not shares:
        return TrialSlots(whole, n_first=max(1, whole.count))
    most = max((share for share in shares if share is not None), default=None)
    n_trials = choose_trials_per_gpu(most, whole.max_per_gpu)
    if n_trials == 1 or most is None:
        return TrialSlots(whole)
    needs = f"a trial needs {most:.1%} of a GPU's memory: {n_trials} trials"
    if whole.profile is None and not shares_local_gpu(session):
        log("search", f"{needs} could share one (docs/cluster.md, spark.task.resource.gpu.amount)")
        return TrialSlots(whole)
    log("search", f"{needs} share one (spark.trials_per_gpu)")
    return TrialSlots(plan_slots(session, cfg, n_trials))


def choose_trials_per_gpu(share: float | None, max_trials: int) -> int:
    """Choose how many trials share a GPU.

    Args:
        share: largest share of a GPU's memory that a finished trial needed; None: trials use no
            GPU through torch, so nothing is known.
        max_trials: cores for each GPU; a trial needs one.
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
) -> Iterator[Outcome]:
    """Train runs as `train_runs` does, in slots of `plan_trials`.

    The caller records an outcome before it asks for the next: the memory that the first runs
    needed decides how many of the others share a GPU.

    Raises:
        ClimbError, RuntimeError: as for `train_runs`.
    """
    while runs:
        planned = plan_trials(store, cfg, recipe)
        part, runs = runs[: planned.n_first], runs[len(runs[: planned.n_first]) :]
        yield from train_runs(store.session, proxy, part, planned.slots, watch)


def _read_gpu_shares(store: Store, recipe: str) -> list[float | None]:
    """Return what each finished trial of a recipe needed."""
    rows = [
        row
        for table in (tables.TRIALS, tables.RUNGS)
        if store.exists(table)
        for row in store.read_rows(table, proxy=recipe)
    ]
    return [row["gpu_share"] for row in rows if row.get("status", "finished") == "finished"]

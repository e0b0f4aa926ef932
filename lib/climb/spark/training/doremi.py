"""Run DoReMi: train a reference model and a proxy only once, and record the domain weights.

Both continue the base checkpoint of the trials, on the shards of the trials. The reference model is
trained on the natural mixture. Each of the two runs is one Spark task. Like a trial, it writes
checkpoints and is tried again after a failure. The names of the files that a run writes contain a
hash of all inputs, and incomplete files are ignored. The rows of table `doremi` are written in one
commit. So a job that was interrupted continues, and a finished job is not repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from climb import tables
from climb.config import Config, build, recipe_of
from climb.errors import ConfigError
from climb.files import is_complete
from climb.progress import log
from climb.proxy import Proxy, ProxyRun
from climb.proxy.group_dro import read_weights
from climb.proxy.recipe import Recipe
from climb.search.baselines import DoremiMixture
from climb.spark.delta.store import Store
from climb.spark.slots import plan_slots
from climb.spark.training.setup import (
    TRIAL_KINDS,
    TrainingSetup,
    digest_values,
    ensure_base_checkpoint,
)
from climb.spark.training.study import Study
from climb.spark.training.trials import train_required
from climb.spark.training.watch import WatchSettings

RUN_KIND = TRIAL_KINDS[1]
"""Kind of the shards that both runs read."""


@dataclass(frozen=True)
class DoremiResult:
    """The mixture of DoReMi, and what it cost."""

    weights: dict[str, float]
    """Domain -> mean weight over the steps of the proxy. Constraints are not applied."""

    n_tokens: int
    """Tokens of the reference model and of the proxy together, without the base checkpoint."""

    n_trials: float
    """`n_tokens` divided by the tokens of a trial."""

    was_trained: bool
    """Whether this call wrote the rows; False: they were recorded already."""


@dataclass(frozen=True)
class DoremiPlan:
    """The two runs of DoReMi."""

    name: str
    """Identifies the result: a hash of recipe, data, budget, settings and seed."""

    reference: ProxyRun
    proxy: Proxy
    """A `climb.proxy.doremi.DoremiProxy`."""

    run: ProxyRun
    """The run of the proxy: equally many sequences of each domain."""

    curve: Path
    """File of the domain weights by step."""

    trial_tokens: int

    @property
    def n_tokens(self) -> int:
        """Tokens of both runs."""
        return self.reference.n_tokens + self.run.n_tokens


def train_doremi(
    store: Store, cfg: Config, setup: TrainingSetup, n_trials: int | None = None
) -> DoremiResult:
    """Train the reference model and the proxy, unless their result is recorded.

    Args:
        store: the tables.
        cfg: sections `doremi` and `spark` are used.
        setup: of the trials.
        n_trials: budget in trials, instead of `doremi.trials`.

    Raises:
        ConfigError: `proxy.model` is not a `Recipe`, so DoReMi cannot change how it is trained.
        ClimbError: a model was not trained; the next start continues its training.
    """
    trials = n_trials or cfg.doremi.count_trials(cfg.search.trials_per_round)
    plan = plan_doremi(cfg, setup, trials)
    rows = _read_recorded(store, plan)
    if was_trained := not rows:
        log("doremi", f"reference model and proxy together read as many tokens as {trials} trials")
        log("doremi", _describe_repetition(store, plan))
        rows = _train(store, cfg, setup, plan)
        frame = store.create_frame(rows, tables.DOREMI)
        version = store.history.read_version(tables.DOREMI)
        store.append(frame, tables.DOREMI, once=f"{plan.name}:{version}")
    last = max(rows, key=lambda row: int(row["step"]))
    return DoremiResult(last["averaged"], plan.n_tokens, last["n_trials"], was_trained)


def add_doremi(study: Study) -> Study:
    """Return the study with the domain weights of DoReMi, if DoReMi is one of its baselines.

    Raises:
        ClimbError: as for `train_doremi`.
    """
    problem = study.problem
    if not any(isinstance(baseline, DoremiMixture) for baseline in problem.baselines):
        return study
    weights = train_doremi(study.store, study.cfg, study.setup).weights
    baselines = tuple(
        baseline.fix(weights) if isinstance(baseline, DoremiMixture) else baseline
        for baseline in problem.baselines
    )
    return replace(study, problem=replace(problem, baselines=baselines))


def plan_doremi(cfg: Config, setup: TrainingSetup, n_trials: int) -> DoremiPlan:
    """Plan both runs: each has half of the tokens of `n_trials` trials.

    Raises:
        ConfigError: `proxy.model` is not a `Recipe`, so DoReMi cannot change how it is trained.
    """
    if not isinstance(setup.proxy, Recipe):
        raise ConfigError(
            f"proxy.model is a {type(setup.proxy).__name__}, whose training DoReMi cannot change; "
            "use climb.proxy.llama:LlamaProxy or climb.proxy.llama:HuggingFaceProxy, or leave "
            "DoReMi out"
        )
    doremi, folder = cfg.doremi, setup.files / "doremi"
    total = n_trials * setup.n_tokens
    first = replace(setup, n_tokens=total // 2, targets=())
    second = replace(setup, n_tokens=total - total // 2, targets=())
    uniform = dict.fromkeys(setup.natural, 1.0 / len(setup.natural))
    reference = folder / f"reference-{first.name_run(setup.natural, doremi.seed)}"
    made_with = [reference.name, second.name_run(uniform, doremi.seed)]
    name = digest_values([*made_with, doremi.step_size, doremi.smoothing])
    curve = folder / f"curve-{name}.json"
    settings = {"training": setup.proxy, "reference": str(reference), "curve": str(curve)}
    settings |= {"step_size": doremi.step_size, "smoothing": doremi.smoothing}
    # Built by name, like a plug-in, so that the jobs do not import deep-learning modules.
    proxy = build({"use": "climb.proxy.doremi:DoremiProxy", **settings}, Proxy)
    return DoremiPlan(
        name,
        replace(first.build_run(setup.natural, doremi.seed), save=str(reference)),
        proxy,
        # `build_run` names the checkpoints, but its name does not depend on the step size and the
        # smoothing. So it is replaced by a name with a hash of all settings.
        replace(
            second.build_run(uniform, doremi.seed),
            checkpoints=str(setup.files / "checkpoints" / f"doremi-{name}"),
        ),
        curve,
        setup.n_tokens,
    )


def _read_recorded(store: Store, plan: DoremiPlan) -> list[tables.Row]:
    if not store.exists(tables.DOREMI):
        return []
    return store.read_rows(tables.DOREMI, run=plan.name)


def _describe_repetition(store: Store, plan: DoremiPlan) -> str:
    """Describe how often the proxy reads the shard that it repeats most."""
    rows = store.read_rows(tables.SHARDS, kind=RUN_KIND)
    smallest = min(rows, key=lambda row: (row["n_tokens"], row["domain"]))
    epochs = plan.run.n_tokens / len(rows) / smallest["n_tokens"]
    return (
        "the proxy reads equally many tokens of each domain; it reads the shard of "
        f"{smallest['domain']} ({smallest['n_tokens']:,} tokens) {epochs:.1f} times"
    )


def _train(store: Store, cfg: Config, setup: TrainingSetup, plan: DoremiPlan) -> list[tables.Row]:
    """Train what is not complete yet, and build the rows of the proxy's curve."""
    ensure_base_checkpoint(store, setup, plan_slots(store.session, cfg.spark))
    seconds = 0.0
    if not is_complete(Path(str(plan.reference.save))):
        seconds += _train_one(store, cfg, setup.proxy, ("reference model", plan.reference))
    if not is_complete(plan.curve):
        seconds += _train_one(store, cfg, plan.proxy, ("proxy", plan.run))
    columns = {
        "run": plan.name,
        "proxy": recipe_of(setup.proxy),
        "corpus_digest": setup.corpus_digest,
        "step_size": cfg.doremi.step_size,
        "smoothing": cfg.doremi.smoothing,
        "seed": plan.run.seed,
        "reference_tokens": plan.reference.n_tokens,
        "proxy_tokens": plan.run.n_tokens,
        "n_trials": plan.n_tokens / plan.trial_tokens,
        "seconds": seconds,
        "finished": datetime.now(UTC),
    }
    points = read_weights(plan.curve)
    return [{**columns, **vars(point)} for point in points]


def _train_one(store: Store, cfg: Config, proxy: Proxy, named: tuple[str, ProxyRun]) -> float:
    """Train one of the two models in a task, on a whole GPU if there is one; return the seconds.

    Raises:
        ClimbError: the model was not trained.
    """
    name, run = named
    slots = plan_slots(store.session, cfg.spark)
    watch = WatchSettings("doremi", cfg.proxy.hung_minutes)
    what = f"the {name} of DoReMi"
    seconds = train_required(store.session, proxy, named, slots, watch, what)
    log("doremi", f"{name}: {run.n_tokens:,} tokens  ({seconds:.1f} s)")
    return seconds

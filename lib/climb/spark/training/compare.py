"""Train a comparison: the searches of all methods, then target models of their mixtures.

Each search has its own name. All searches use table `trials` of the run, so a trial that several
methods plan is trained once. Models are trained seed by seed, so an interrupted comparison has all
methods for each finished seed. Each trial and each model is recorded when it ends; the next start
trains those that are not recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from climb import tables
from climb.config import Config
from climb.errors import ConfigError
from climb.objective import Objective
from climb.progress import log
from climb.proxy.items import list_targets
from climb.proxy.metrics import list_metrics
from climb.report.comparison import MethodRuns
from climb.search.comparison import Method
from climb.spark.delta.store import Store, Variant
from climb.spark.training.methods import FoundMixture, build_plugin, make_mixture, read_searched
from climb.spark.training.results import PlannedModel
from climb.spark.training.search import describe_search
from climb.spark.training.setup import TrainingSetup, build_target_setup, build_trial_setup
from climb.spark.training.train import train_planned

Job = Callable[[Store, Config], str]
"""A job of the pipeline; it returns the text for the run log."""

OWN_JOBS = ("cluster", "prune", "pack")
"""Jobs whose tables a method may have for itself."""


@dataclass(frozen=True)
class Progress:
    """The results after a number of seeds."""

    runs: tuple[MethodRuns, ...]
    n_failed: int
    """Target models that failed; the next start tries them again."""

    n_paid: float
    """Price of the mixtures of all methods, in trials: the sum of `FoundMixture.n_trials` over the
    methods and seeds. A trial that several methods share counts for each of them."""

    n_shared: int
    """Repetitions: a trial that occurs n times in the plans of searches counts n - 1 times."""


@dataclass
class Trainer:
    """Trains the methods of a comparison, one seed after the other."""

    stage: str
    """Name of the job, for the run log."""

    store: Store
    cfg: Config
    methods: Sequence[Method]
    seeds: int
    jobs: Mapping[str, Job]
    """Name -> job: `search`, `embed`, and those of OWN_JOBS that a method needs."""

    found: dict[tuple[str, int], FoundMixture] = field(default_factory=dict)
    """(method, seed) -> its mixture."""

    _models: dict[tuple[str, int], str] = field(default_factory=dict)
    _stores: dict[str, Store] = field(default_factory=dict)
    _setups: dict[tuple[str | None, str], TrainingSetup] = field(default_factory=dict)

    def train(self) -> Iterator[Progress]:
        """Train all methods seed by seed; yield the results so far after each seed.

        Raises:
            ConfigError: a target of the objective has no items to report on, or a plug-in is wrong.
            ClimbError: a search or the training of a model stopped.
        """
        _check_reported(self.cfg)
        for method in self.methods:
            if method.mixture is not None:
                build_plugin(method)  # mistakes show before anything is trained
        n_failed = 0
        for seed in range(self.seeds):
            for place, method in enumerate(self.methods, start=1):
                where = f"seed {seed + 1} of {self.seeds}, method {place} of {len(self.methods)}"
                self._find(method, seed, f"{where}, {method.label}")
            self._read_searched(seed)
            n_failed += self._train_targets(seed)
            yield self._collect(seed, n_failed)

    def _find(self, method: Method, seed: int, where: str) -> None:
        """Make the mixture of a plug-in, or run a method's search unless its result is current."""
        store = self._open_store(method)
        if method.mixture is not None:
            self.found[method.name, seed] = found = make_mixture(store, method, seed)
            log(self.stage, f"{where}: mixture made; it cost {found.n_trials:g} trials")
            return
        cfg = method.configure(seed)
        setup = self._open_setup(method, cfg, build_trial_setup, cfg.proxy.model_dump_json())
        if store.history.is_current(tables.MIXTURES, *describe_search(store, cfg, setup)):
            log(self.stage, f"{where}: its search is up to date")
            return
        log(self.stage, f"{where}: search with {method.n_trials} trials")
        try:
            log("search", self.jobs["search"](store, cfg))
        except ConfigError as error:
            # The name of this search is made from the comparison's name, which the user can change.
            text = str(error).replace("search.name", f"{self.stage}.name")
            raise ConfigError(f"method {method.label}: {text}") from error

    def _read_searched(self, seed: int) -> None:
        for method in self.methods:
            if method.mixture is None:
                store = self._open_store(method)
                self.found[method.name, seed] = read_searched(store, method.configure(seed))

    def _train_targets(self, seed: int) -> int:
        """Train the models of one seed; equal mixtures share a model. Return how many failed."""
        n_failed, planned = 0, dict[str | None, dict[str, PlannedModel]]()
        for method in self.methods:
            setup = self._open_setup(method, self.cfg, build_target_setup, "target")
            weights = self.found[method.name, seed].weights
            name = setup.name_run(weights, seed)
            search = method.configure(seed).search.name
            model = PlannedModel(search, method.name, seed, setup.build_run(weights, seed))
            planned.setdefault(_own_tables(method), {}).setdefault(name, model)
            self._models[method.name, seed] = name
        for own, models in planned.items():
            store = self.store if own is None else self._stores[own]
            setup = self._setups[own, "target"]
            n_new, failed, n_old = train_planned(store, self.cfg, setup, models)
            n_failed += failed
            state = f"{n_new} target models trained, {n_old} already recorded"
            failures = f", {failed} failed" if failed else ""
            log(self.stage, f"seed {seed + 1} of {self.seeds}: {state}{failures}")
        return n_failed

    def _collect(self, last: int, n_failed: int) -> Progress:
        """Read the metrics of the models of all seeds up to seed `last`."""
        metrics: dict[str, dict[str, float]] = {}
        for row in self.store.read_rows(tables.EVALUATIONS):
            metrics.setdefault(row["model"], {})[row["metric"]] = row["value"]
        runs = []
        for method in self.methods:
            found = [self.found[method.name, seed] for seed in range(last + 1)]
            names = {seed: self._models[method.name, seed] for seed in range(last + 1)}
            runs.append(
                MethodRuns(
                    name=method.name,
                    label=method.label,
                    n_trials=sum(f.n_trials for f in found) / len(found),
                    n_tokens=sum(f.n_tokens for f in found) / len(found),
                    metrics={s: metrics[name] for s, name in names.items() if name in metrics},
                )
            )
        ids = [trial for found in self.found.values() for trial in found.trial_ids]
        n_paid = sum(found.n_trials for found in self.found.values())
        return Progress(tuple(runs), n_failed, n_paid, len(ids) - len(set(ids)))

    @cached_property
    def recipes(self) -> dict[str, str]:
        """The recipes of proxies and target models, which are inputs of the table of results."""
        setups = {"proxy": build_trial_setup, "target": build_target_setup}
        return {name: build(self.store, self.cfg).recipe for name, build in setups.items()}

    def _open_store(self, method: Method) -> Store:
        """Open the tables of a method; the first call makes the method's own tables."""
        if method.first_job is None:
            return self.store
        if method.name not in self._stores:
            jobs = OWN_JOBS[OWN_JOBS.index(method.first_job) :]
            own = frozenset(table.name for table in tables.TABLES if table.writer in jobs)
            variant = Variant(f"{method.comparison}.{method.name}", own)
            store = Store(self.store.session, self.store.cfg, variant)
            if jobs[0] == "cluster" and method.cfg.cluster.embeddings == "sample":
                # With other settings, such as another cluster.k, the centroids may be fitted to
                # another sample of documents, whose vectors are perhaps not stored yet.
                jobs = ("embed", *jobs)
            for job in jobs:
                log(job, f"{method.label}: {self.jobs[job](store, method.cfg)}")
            self._stores[method.name] = store
        return self._stores[method.name]

    def _open_setup(
        self, method: Method, cfg: Config, build: Callable[[Store, Config], TrainingSetup], key: str
    ) -> TrainingSetup:
        """Build a setup once, since building reads tables and hashes the files of the targets."""
        names = (_own_tables(method), key)
        if names not in self._setups:
            self._setups[names] = build(self._open_store(method), cfg)
        return self._setups[names]


def _check_reported(cfg: Config) -> None:
    """Check that each entry of `proxy.targets` that the objective uses has a `report` file.

    Target models are measured on the items of these files. If the objective uses a metric that only
    a plug-in measures, none of the entries that the objective uses is checked.

    Raises:
        ConfigError: no target has a `report` file, or a target of the objective has none.
    """
    reported = list_targets(cfg.proxy, "report")
    if not reported:
        raise ConfigError(
            "no target has a `report` file, so target models cannot be compared; set `report` "
            "of a target in proxy.targets"
        )
    text, searched = cfg.search.objective, list_metrics(list_targets(cfg.proxy, "search"))
    try:
        used = Objective.parse(text, searched).weighted_names
    except ConfigError:
        return
    missing = {name.rpartition(".")[0] for name in set(used) - set(list_metrics(reported))}
    if missing:
        raise ConfigError(
            f"search.objective {text!r} uses {', '.join(sorted(missing))}, but proxy.targets "
            "has no `report` file for these, so the models that are compared would have no "
            "score; set `report` for each, or leave them out of the objective"
        )


def _own_tables(method: Method) -> str | None:
    """Return the name of a method with own tables; None: the method reads the run's tables."""
    return method.name if method.first_job is not None else None

"""The configured plug-ins, and checks that they can be built and have their packages and models."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from climb.errors import ConfigError, PreflightError
from climb.files import resolve

if TYPE_CHECKING:
    from climb.config import Config


@dataclass(frozen=True)
class ConfiguredPlugin:
    """A plug-in of the configuration, and the jobs that use it."""

    key: str
    spec: Mapping[str, Any]
    protocol: type
    loaded_by: tuple[str, ...]
    """Jobs that load the model or fit the plug-in, and so need its packages."""

    identified_by: tuple[str, ...] = ()
    """Jobs that only compute its recipe (its identifier, `climb.config.recipe_of`). This needs the
    files of the model, but no package."""

    in_tasks: bool = False
    """Whether tasks on executors load it; if not, the driver uses it."""

    offered: Mapping[str, Any] = field(default_factory=dict)
    """Field -> value that a job sets if the plug-in has this field."""

    def build(self) -> Any:
        """Build the plug-in as its jobs do.

        Raises:
            ConfigError: it cannot be built.
        """
        from climb.config import build

        return build(self.spec, self.protocol, **self.offered)


def list_plugins(cfg: Config) -> Iterator[ConfiguredPlugin]:
    """List all plug-ins of a configuration."""
    from climb.embed import Embedder, offer_batch_tokens
    from climb.export import Format
    from climb.fidelity import Fidelity
    from climb.predictor import Predictor
    from climb.proxy import Proxy
    from climb.quality import Scorer
    from climb.quality.training import ScorerTrainer
    from climb.search.problem import Searcher

    new = ConfiguredPlugin
    embedder, offered = cfg.embed.embedder, offer_batch_tokens(cfg.embed)
    # Job cluster embeds the documents whose vectors are not kept.
    keeps_all = cfg.cluster.embeddings == "all"
    loaded_by, identified_by = (
        (("embed",), ("cluster",)) if keeps_all else (("embed", "cluster"), ())
    )
    yield new("embed.embedder", embedder, Embedder, loaded_by, identified_by, True, offered)
    for index, scorer in enumerate(cfg.score.scorers):
        yield new(f"score.scorers.{index}", scorer, Scorer, ("score",), ("prune",), True)
    trainer = cfg.score.training.trainer
    yield new("score.training.trainer", trainer, ScorerTrainer, ("train_scorer",))
    # Any object is accepted: the protocol of clusterers imports pyspark, which may be missing.
    yield new("cluster.clusterer", cfg.cluster.clusterer, object, ("cluster",))
    yield new("proxy.model", cfg.proxy.model, Proxy, ("base", "search", "doremi"), in_tasks=True)
    yield new("search.predictor", cfg.search.predictor, Predictor, ("search",))
    yield new("search.searcher", cfg.search.searcher, Searcher, ("search",))
    for index, fidelity in enumerate(cfg.search.fidelities):
        yield new(f"search.fidelities.{index}", fidelity, Fidelity, ("search",), in_tasks=True)
    yield new("train.model", cfg.train.model, Proxy, ("target_base", "train"), in_tasks=True)
    yield new("export.format", cfg.export.format, Format, ("export",), in_tasks=True)
    yield from _list_method_plugins(cfg)


def _list_method_plugins(cfg: Config) -> Iterator[ConfiguredPlugin]:
    """List the plug-ins that the methods of a comparison have instead of the configured ones."""
    from climb.predictor import Predictor
    from climb.search.problem import Searcher

    for name, method in cfg.compare.methods.items():
        key = f"compare.methods.{name}"
        if method is not None and method.mixture is not None:
            yield ConfiguredPlugin(
                f"{key}.mixture", method.mixture, object, ("compare",), offered={"name": name}
            )
        for part, protocol in (("predictor", Predictor), ("searcher", Searcher)):
            spec = method.search.get(part, {}) if method is not None else {}
            if "use" in spec:  # else the method changes fields of the configured plug-in
                yield ConfiguredPlugin(f"{key}.search.{part}", spec, protocol, ("compare",))


def list_task_packages(cfg: Config, jobs: Collection[str]) -> dict[str, str]:
    """Return import name -> what needs it, for the plug-ins that run in tasks of these jobs."""
    found: dict[str, str] = {}
    if "count" in jobs:
        found["tokenizers"] = "job count"
    for plugin in list_plugins(cfg):
        if set(plugin.loaded_by).isdisjoint(jobs):
            continue
        built = plugin.build()
        needs = getattr(built, "needs", ()) if plugin.in_tasks else ()
        # `needs_in_tasks` lists the packages that the tasks need. `needs` may have fewer of them,
        # because the driver of a GPU job may have no GPU and no libraries for GPUs.
        for name in (*needs, *getattr(built, "needs_in_tasks", ())):
            found.setdefault(name, plugin.key)
    return found


def check_plugin(configured: ConfiguredPlugin, packages: bool = True) -> Iterator[str]:
    """Yield what is wrong with a plug-in: it cannot be built, or a package or a file is missing."""
    from climb.config import find_model_paths

    key, spec = configured.key, configured.spec
    try:
        plugin = configured.build()
    except ConfigError as error:
        yield f"{key}: {error}"
        return
    needs = getattr(plugin, "needs", ()) if packages else ()
    missing = [repr(name) for name in needs if importlib.util.find_spec(name) is None]
    if missing:
        one = len(missing) == 1
        yield (
            f"{key}: {spec['use']} needs the Python package{'' if one else 's'} "
            f"{', '.join(missing)}; {_explain_install(plugin)}"
        )
    for name, path in find_model_paths(plugin).items():
        yield from _check_model_path(f"{key}.{name}", path)


def _explain_install(plugin: Any) -> str:
    extra = getattr(plugin, "extra", None)
    if extra is None:
        return "install a project that provides it"
    return f"run make setup, or pip install 'climb-mixture[{extra}]'"


def _check_model_path(key: str, path: str) -> Iterator[str]:
    try:
        resolve(path)
    except PreflightError as error:
        yield f"{key}: {error}"

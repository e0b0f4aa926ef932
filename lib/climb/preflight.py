"""What a run needs from this machine, checked in seconds, before any Spark job starts.

`climb.doctor` describes the machine to a person; this stops a run that cannot end well.
"""

from __future__ import annotations

import glob
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from climb.doctor import FREE_GB, java
from climb.errors import ConfigError, PreflightError
from climb.files import is_uri, resolve

if TYPE_CHECKING:
    from climb.config import Config


def preflight(cfg: Config, jobs: Collection[str] | None = None) -> None:
    """Stop before Spark starts where a job could not end well.

    Args:
        cfg: the resolved configuration.
        jobs: names of the jobs that will run; what the others need is not asked for. None: all.

    Raises:
        PreflightError: everything that is missing, in one line.
    """

    def wanted(*names: str) -> bool:
        return jobs is None or not set(names).isdisjoint(jobs)

    problems = [*_no_spark()]
    if jobs is not None and "ingest" in jobs and not cfg.ingest.inputs:
        problems.append("ingest.inputs is empty; name files, folders or globs of documents")
    if wanted("ingest"):
        problems += _no_inputs(cfg.ingest.inputs)
    for key, spec, protocol, users in _plugins(cfg):
        if wanted(*users):
            problems += _no_model(key, spec, protocol)
    if cfg.count.path is not None and wanted("count", "prune", "pack", "mix"):
        problems += _unresolved("count.path", cfg.count.path)
    if wanted("prune"):
        problems += _no_score(cfg)
    if wanted("search"):
        problems += _no_objective(cfg.search.objective)
    if jobs is not None and "search" in jobs and not cfg.proxy.targets:
        problems.append("proxy.targets is empty; name at least one file of items to measure on")
    for target in cfg.proxy.targets:
        if wanted("search"):
            problems += _no_file(f"proxy.targets {target.name!r}: search", target.search)
        if wanted("train") and target.report is not None:
            problems += _no_file(f"proxy.targets {target.name!r}: report", target.report)
    problems += _no_room("storage.root", cfg.storage.root)
    if cfg.storage.files is not None:
        problems += _no_room("storage.files", cfg.storage.files)
    if problems:
        raise PreflightError("; ".join(problems))


def _no_spark() -> Iterator[str]:
    """On Databricks, or below spark-submit, there is a JVM already and it is the right one."""
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return
    for module, project in (("pyspark", "pyspark"), ("delta", "delta-spark")):
        if importlib.util.find_spec(module) is None:
            yield (
                f"Python package {project} is missing: make setup, or "
                f"pip install 'climb-mixture[spark]'"
            )
    if "PYSPARK_GATEWAY_PORT" not in os.environ and not (check := java()).ok:
        yield f"{check.found}. To install: {check.mend}"


def _no_inputs(inputs: Collection[str]) -> Iterator[str]:
    """Files, folders and globs as `climb.ingest.files` reads them, without listing any of them."""
    for path in inputs:
        local = Path(path).expanduser()
        found = is_uri(path) or local.exists()
        if not found and next(glob.iglob(str(local), recursive=True), None) is None:  # noqa: PTH207
            yield f"ingest.inputs: {path!r} does not exist (looked at {local.absolute()})"


def _no_file(key: str, path: str) -> Iterator[str]:
    if not is_uri(path) and not Path(path).exists():
        yield f"{key}: {path!r} does not exist (looked at {Path(path).absolute()})"


def _plugins(cfg: Config) -> Iterator[tuple[str, Mapping[str, Any], type, tuple[str, ...]]]:
    """Key, spec, protocol, and the jobs that build it, of every plug-in."""
    from climb.embed import Embedder
    from climb.predictor import Predictor
    from climb.proxy import Proxy
    from climb.quality import Scorer
    from climb.quality.training import ScorerTrainer
    from climb.search.searcher import Searcher

    yield "embed.embedder", cfg.embed.embedder, Embedder, ("embed", "cluster")
    for index, scorer in enumerate(cfg.score.scorers):
        yield f"score.scorers.{index}", scorer, Scorer, ("score", "prune")
    trainer = cfg.score.training.trainer
    yield "score.training.trainer", trainer, ScorerTrainer, ("train_scorer",)
    # Its protocol knows Spark, which may be what is missing.
    yield "cluster.clusterer", cfg.cluster.clusterer, object, ("cluster",)
    yield "proxy.model", cfg.proxy.model, Proxy, ("search",)
    yield "search.predictor", cfg.search.predictor, Predictor, ("search",)
    yield "search.searcher", cfg.search.searcher, Searcher, ("search",)
    yield "train.model", cfg.train.model, Proxy, ("train",)


def _no_model(key: str, spec: Mapping[str, Any], protocol: type) -> Iterator[str]:
    """A plug-in that cannot be built, lacks a package, or has a model path that leads nowhere."""
    from climb.config import build, model_paths

    try:
        plugin = build(spec, protocol, batch_tokens=1)
    except ConfigError as error:
        yield f"{key}: {error}"
        return
    for name in getattr(plugin, "needs", ()):
        if importlib.util.find_spec(name) is None:
            yield f"{key}: {spec['use']} needs the Python package {name!r}: pip install it"
    for name, path in model_paths(plugin).items():
        yield from _unresolved(f"{key}.{name}", path)


def _unresolved(key: str, path: str) -> Iterator[str]:
    try:
        resolve(path)
    except PreflightError as error:
        yield f"{key}: {error}"


def _no_score(cfg: Config) -> Iterator[str]:
    """Thresholds of scores that no scorer gives; scorers that cannot be built are named already."""
    from climb.config import build
    from climb.quality import Scorer

    try:
        scorers = [build(spec, Scorer) for spec in cfg.score.scorers]
    except ConfigError:
        return
    names = {name for scorer in scorers for name in scorer.names}
    for name in sorted(set(cfg.prune.thresholds) - names):
        yield (
            f"prune.thresholds names {name!r}; the scores are "
            f"{', '.join(sorted(names)) or 'none: score.scorers is empty'}"
        )


def _no_objective(text: str) -> Iterator[str]:
    from climb.objective import Objective

    try:
        Objective.check(text)
    except ConfigError as error:
        yield f"search.{error}"


def _no_room(key: str, root: str) -> Iterator[str]:
    """Whether the folder, or the nearest one above it that exists, takes a file; it keeps none."""
    if is_uri(root):
        return
    folder = Path(root).absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        yield f"{key}: {folder} is a file; name a folder"
        return
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield f"{key}: {folder} cannot be written ({error.strerror}); name another folder"
        return
    free = shutil.disk_usage(folder).free / 1e9
    if free < FREE_GB:
        yield f"{key}: {free:.2f} GB free at {folder}; a run needs at least {FREE_GB:.0f} GB"

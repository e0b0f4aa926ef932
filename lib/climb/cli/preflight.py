"""Check within seconds, before Spark starts, that a run has everything it needs.

`climb.cli.doctor` describes the machine to a user; this module stops a run that would fail.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from climb.cli.doctor import FREE_GB, check_java
from climb.cli.environment import check_environment
from climb.cli.plugins import check_plugin, list_plugins
from climb.errors import ConfigError, InputError, PreflightError
from climb.files import exists, is_uri, probe_folder

if TYPE_CHECKING:
    from climb.config import Config

TRAINING = ("base", "search", "doremi", "target_base", "train")
"""Jobs that train models."""


def run_preflight(cfg: Config, jobs: Collection[str] | None = None, packages: bool = True) -> None:
    """Stop before Spark starts if a job would fail.

    Args:
        cfg: the resolved configuration.
        jobs: names of the jobs that will run; only their needs are checked. None: the needs of all
            jobs are checked, except what `_find_empty` and `_check_comparisons` check.
        packages: whether to check the packages of models. False if other machines load the models.

    Raises:
        PreflightError: something is missing or wrong; the message lists all problems in one line.
    """

    def will_run(*names: str) -> bool:
        return jobs is None or not set(names).isdisjoint(jobs)

    problems = [*_check_spark(), *_check_tracking(cfg), *_find_empty(cfg, jobs or ())]
    if will_run("ingest"):
        problems += _check_inputs(cfg.ingest.inputs)
    for plugin in list_plugins(cfg):
        if will_run(*plugin.loaded_by, *plugin.identified_by):
            problems += check_plugin(plugin, packages and will_run(*plugin.loaded_by))
    if cfg.count.path is not None and will_run("count", "prune", "pack", *TRAINING, "mix"):
        problems += _check_tokenizer(cfg.count.path, cfg.count.end_of_text)
    if will_run("export"):
        problems += _check_export(cfg)
    if will_run("prune"):
        problems += _check_thresholds(cfg)
        problems += [] if cfg.prune.names is None else _check_file("prune.names", cfg.prune.names)
    if will_run("search"):
        problems += _check_search(cfg)
    if will_run("search", "contamination"):
        problems += _check_items(cfg, "search")
    if will_run("search", "train", "contamination"):
        problems += _check_items(cfg, "report")
    problems += [*_check_comparisons(cfg, jobs or ()), *_check_folders(cfg)]
    if problems:
        raise PreflightError(_join_problems(problems))


def _find_empty(cfg: Config, jobs: Collection[str]) -> Iterator[str]:
    """Yield a problem for each list of the configuration that is empty, but needed by these jobs.

    These lists have no default: they are empty in conf/default.yaml.
    """
    if "ingest" in jobs and not cfg.ingest.inputs:
        yield "ingest.inputs is empty; set it to files, folders or globs of documents"
    if not {"search", "contamination"}.isdisjoint(jobs) and not cfg.proxy.targets:
        yield "proxy.targets is empty; set at least one file of evaluation items"
    if "remove" in jobs and not cfg.remove.sources:
        yield "remove.sources is empty; run `climb remove --source NAME`"


def _join_problems(problems: list[str]) -> str:
    """Number the problems if there are several."""
    if len(problems) == 1:
        return problems[0]
    return " ".join(f"({i}) {p.removesuffix('.')}." for i, p in enumerate(problems, 1))


def _check_spark() -> Iterator[str]:
    """Check the Python packages, the Java and the environment variables that Spark needs.

    Nothing is checked on Databricks, which provides the packages and Java. Under spark-submit, a
    JVM is running already, so only the packages are checked.
    """
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return
    for module, project in (("pyspark", "pyspark"), ("delta", "delta-spark")):
        if importlib.util.find_spec(module) is None:
            yield (
                f"Python package {project} is missing; run make setup, or "
                f"pip install 'climb-mixture[local]'"
            )
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return
    for check in [check_java(), *check_environment()]:
        if not check.ok:
            yield f"{check.name}: {check.found}. To fix: {check.fix}"


def _check_inputs(inputs: Collection[str]) -> Iterator[str]:
    """Check that local files, folders and globs exist. Job ingest checks URIs and Delta tables."""
    from climb.ingest.files import TABLE_PREFIX

    for path in inputs:
        local = Path(path).expanduser()
        is_found = is_uri(path) or path.startswith(TABLE_PREFIX) or exists(local)
        if not is_found and next(glob.iglob(str(local), recursive=True), None) is None:  # noqa: PTH207
            yield (
                f"ingest.inputs: {path!r} matches no file or folder (looked at "
                f"{local.absolute()}); correct the path"
            )


def _check_file(key: str, path: str) -> Iterator[str]:
    if is_uri(path):
        yield f"{key}: {path!r} is a URI, but workers open it as a file; mount its folder"
    elif not exists(Path(path)):
        looked_at = Path(path).absolute()
        yield f"{key}: {path!r} does not exist (looked at {looked_at}); correct the path"


def _check_items(cfg: Config, split: Literal["search", "report"]) -> Iterator[str]:
    """Check that the files of items exist, and that their first items are valid."""
    from climb.proxy.items import check_first_items, list_targets

    for target in list_targets(cfg.proxy, split):
        missing = list(_check_file(f"proxy.targets {target.name!r}: {split}", target.path))
        yield from missing
        if not missing:
            try:
                check_first_items(target)
            except InputError as error:
                yield str(error)


def _check_tokenizer(path: str, end_of_text: str | None) -> Iterator[str]:
    """Check that the configured tokenizer opens, and has a token that ends a document."""
    from climb.tokenizer import find_end_of_text, open_tokenizer, read_tokenizer

    try:
        find_end_of_text(open_tokenizer(read_tokenizer(path)), end_of_text)
    except (ConfigError, PreflightError) as error:
        yield f"count.path: {error}"


def _check_export(cfg: Config) -> Iterator[str]:
    """Check the folder and the tokenizer of an export, and what its format needs."""
    from climb.config import build
    from climb.export import Format
    from climb.export.folder import follow_link
    from climb.export.format import check_early
    from climb.export.tokenization import read_own_tokenizer

    with contextlib.suppress(ConfigError):  # `check_plugin` reports what cannot be built
        format = build(cfg.export.format, Format)
        try:
            folder = str(follow_link(cfg.export_folder))
            check_early(format, folder, cfg.export.validation_share > 0.0)
        except ConfigError as error:
            yield f"export.format: {error}"

    if cfg.export.path is not None:
        yield from _check_folder("export.path", cfg.export.path)
    if cfg.export.tokenizer is not None:
        try:
            read_own_tokenizer(cfg.export.tokenizer, cfg.export.end_of_text)
        except (ConfigError, PreflightError) as error:
            yield f"export.tokenizer: {error}"


def _check_thresholds(cfg: Config) -> Iterator[str]:
    """Check that a scorer exists for every threshold; `check_plugin` reports invalid scorers."""
    from climb.config import build
    from climb.quality import Scorer

    try:
        scorers = [build(spec, Scorer) for spec in cfg.score.scorers]
    except ConfigError:
        return
    names = {name for scorer in scorers for name in scorer.names}
    for name in sorted(set(cfg.prune.thresholds) - names):
        yield (
            f"prune.thresholds.{name}: no scorer computes this score; the scores are "
            f"{', '.join(sorted(names)) or 'none, because score.scorers is empty'}"
        )


def _check_search(cfg: Config) -> Iterator[str]:
    """Check the objective and the baselines."""
    from climb.objective import Objective
    from climb.search.baselines import build_baselines

    metrics = _list_metrics(cfg)
    try:
        if metrics:
            Objective.parse(cfg.search.objective, metrics)
        else:
            Objective.check(cfg.search.objective)
    except ConfigError as error:
        yield f"search.{error}"
    try:
        build_baselines(cfg.search.baselines)
    except ConfigError as error:
        yield str(error)


def _check_comparisons(cfg: Config, jobs: Collection[str]) -> Iterator[str]:
    """Check that methods and budget of a comparison, or rows of an ablation, are valid."""
    from climb.search.comparison import plan_ablation, plan_comparison

    for job, plan in (("compare", plan_comparison), ("ablate", plan_ablation)):
        try:
            if job in jobs:
                plan(cfg)
        except ConfigError as error:
            yield str(error)


def _list_metrics(cfg: Config) -> list[str]:
    """List the metrics of the proxies; none if they are unknown before the first run."""
    from climb.config import build
    from climb.proxy import Proxy
    from climb.proxy.items import list_targets
    from climb.proxy.metrics import list_metrics
    from climb.proxy.training import TrainingRecipe

    try:
        model = build(cfg.proxy.model, Proxy)
    except ConfigError:  # `check_plugin` reports it
        return []
    if not isinstance(model, TrainingRecipe) or not cfg.proxy.targets:
        return []
    return list_metrics(list_targets(cfg.proxy, "search"))


def _check_tracking(cfg: Config) -> Iterator[str]:
    """Check the name of the experiment: Databricks accepts only a path of the workspace."""
    uri, name = cfg.tracking.uri or "", cfg.tracking.experiment
    if cfg.tracking.enabled and uri.partition(":")[0] == "databricks" and name[:1] != "/":
        yield (
            f"tracking.experiment is {name!r}; with tracking.uri {uri!r} it must be an absolute "
            f"path of the workspace, for example /Shared/{name}"
        )


def _check_folders(cfg: Config) -> Iterator[str]:
    yield from _check_folder("storage.root", cfg.storage.root)
    if cfg.storage.files is not None:
        yield from _check_folder("storage.files", cfg.storage.files)


def _check_folder(key: str, root: str) -> Iterator[str]:
    """Check that the folder, or its nearest existing parent, is writable and has free space."""
    if is_uri(root):
        return
    folder = Path(root).absolute()
    while not exists(folder):
        folder = folder.parent
    if not folder.is_dir():
        yield f"{key}: {folder} is a file; set {key} to a folder"
        return
    try:
        probe_folder(folder)
    except OSError as error:
        yield f"{key}: cannot write to {folder} ({error.strerror}); set {key} to another folder"
        return
    usage = shutil.disk_usage(folder)
    # Mounts of object stores report a size of 0, which means that it is unknown.
    if usage.total > 0 and usage.free < FREE_GB * 1e9:
        yield (
            f"{key}: {usage.free / 1e9:.2f} GB free at {folder}; a run needs at least "
            f"{FREE_GB:.0f} GB; free some space or set {key} to another disk"
        )

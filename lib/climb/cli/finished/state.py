"""The state of what a job depends on: it is recorded for each run, and compared later."""

from __future__ import annotations

import functools
import glob
import hashlib
import importlib.util
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from climb.cli.finished.delta_log import Change, read_last_change, read_last_commit
from climb.cli.plugins import list_plugins
from climb.config import Config, find_model_paths
from climb.config.uris import hide_credentials
from climb.errors import ClimbError, TableError
from climb.files import is_uri, list_files, resolve
from climb.ingest.files import find_files

State = dict[str, Any]
"""JSON values by part: code, storage, settings, models, inputs, tables, files."""

TRAINED = ("proxy", "count", "search", "doremi")
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "ingest": ("ingest",),
    "count": ("count",),
    "embed": ("embed", "cluster"),
    "score": ("score",),
    "cluster": ("cluster", "embed"),
    "prune": ("prune", "count", "score"),
    "pack": (
        *("count", "proxy.base_tokens", "proxy.trial_tokens", "proxy.match_repetition"),
        *("train.base_tokens", "train.tokens", "search.target_tokens"),
    ),
    "base": TRAINED,
    "search": TRAINED,
    "mix": ("mix", "search", "count"),
    "target_base": (*TRAINED, "train"),
    "train": (*TRAINED, "train"),
    "report": (
        *("ingest", "count", "embed", "score", "cluster", "prune", "proxy", "search", "mix"),
        *("export", "train", "report", "tracking", "spark", "storage"),  # shown in the report
    ),
    "compare": (*TRAINED, "train", "compare"),
    "ablate": (*TRAINED, "train", "ablate", "cluster", "prune", "embed", "score"),
}
"""Job -> the sections or keys that it reads. The folders storage.root and storage.files are part of
every state. The sections `spark` and `tracking` change no table, so only `report` has them. A test
compares this mapping with the keys that the jobs read."""

STARTS: Mapping[str, tuple[str, ...]] = {
    "compare": ("base", "search", "doremi", "target_base", "train"),
    "ablate": ("base", "search", "target_base", "train"),
}
"""Job -> the jobs that it runs itself, or whose tables it writes too."""

OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "compare": ("comparisons/compare-*",),
    "ablate": ("comparisons/ablate-*",),
    "base": ("models/proxies/**/*",),
    "target_base": ("models/proxies/**/*",),
    "train": ("models/targets/**/*",),
    "report": ("report.html", "figures/*.svg", "mlflow.mirrored", "mlflow.models"),
}
"""Job -> patterns of the files that it leaves below storage.files. Job `mix` is missing, because
the key `mix.export` names its folder. Job `pack` is missing, because it reports its folders
(`Used.folders`)."""


@dataclass(frozen=True)
class Used:
    """What a run of a job has used."""

    tables: Collection[str] = ()
    """Names of tables that it has read or written."""

    folders: Collection[str] = ()
    """Folders that it wrote or found complete: if their files change, the job runs again."""


def find_obstacle(cfg: Config) -> str | None:
    """Return why the state cannot be read without Spark; None if it can."""
    if cfg.storage.catalog is not None:
        return f"its tables are in the catalog {cfg.storage.catalog}"
    if is_uri(cfg.storage.root) or "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return f"its tables are in {cfg.storage.root}"
    return None


def describe_state(name: str, cfg: Config, used: Used) -> State:
    """Describe everything that decides what a job would do now.

    Args:
        name: name of a job in SETTINGS.
        cfg: the configuration.
        used: what the last run of the job has used.

    Raises:
        ClimbError: a part cannot be read, or only Spark can read it.
    """
    storage = cfg.storage
    return {
        "code": _digest_code(),
        "storage": [str(Path(storage.root).absolute()), str(storage.files_folder)],
        "settings": {key: _read_setting(cfg, key) for key in SETTINGS[name]},
        "models": _identify_models(name, cfg),
        "inputs": _list_inputs(cfg) if name == "ingest" else {},
        "tables": read_changes(cfg, sorted(used.tables)),
        "files": _list_outputs(name, cfg)
        | {folder: _digest_files(Path(folder), "**/*") for folder in sorted(used.folders)},
    }


def read_changes(cfg: Config, names: Collection[str]) -> dict[str, list[Any] | None]:
    """Read the newest change of each table, in the form that a state has; None: no such table."""
    folder = Path(cfg.storage.root).absolute() / "tables"
    return {name: _format_change(read_last_change(folder / name)) for name in names}


def _format_change(change: Change | None) -> list[Any] | None:
    return None if change is None else [change.version, change.digest]


def _read_setting(cfg: Config, key: str) -> Any:
    value: Any = cfg.model_dump(mode="json")
    uri = value["tracking"]["uri"]
    value["tracking"]["uri"] = uri and hide_credentials(uri)
    for part in key.split("."):
        value = value[part]
    return value


@functools.cache
def _digest_code() -> str:
    """Hash the source of the package and of the jobs: a new version may decide differently."""
    total = hashlib.sha256()
    for name in ("climb", "climb.jobs"):
        spec = importlib.util.find_spec(name)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            files = [file for end in ("py", "jinja") for file in Path(folder).rglob(f"*.{end}")]
            for file in sorted(files):
                total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()[:16]


def _identify_models(name: str, cfg: Config) -> dict[str, str]:
    """Identify the model files of a job's plug-ins, and the other files that settings name.

    Raises:
        ClimbError: a plug-in cannot be built, or a file does not exist.
    """
    started = {name, *STARTS.get(name, ())}
    if name == "report":
        # The report selects the target models that job `train` would train. For this, it computes
        # their recipe from the plug-ins of job `train` and their model files.
        started.add("train")
    files: dict[str, str | None] = {
        f"{plugin.key}.{field}": path
        for plugin in list_plugins(cfg)
        if not started.isdisjoint((*plugin.loaded_by, *plugin.identified_by))
        for field, path in find_model_paths(plugin.build()).items()
    }
    if "count" in SETTINGS[name]:
        files["count.path"] = cfg.count.path
    if name == "prune":
        files["prune.names"] = cfg.prune.names
    for target in cfg.proxy.located_targets if "proxy" in SETTINGS[name] else ():
        files[f"proxy.targets {target.name} search"] = target.search
        files[f"proxy.targets {target.name} report"] = target.report
    return {key: _stamp(resolve(path)) for key, path in files.items() if path is not None}


def _stamp(path: Path) -> str:
    """Hash names, sizes and times of a file or folder; models are too large to be read again."""
    if path.is_dir():
        return _digest_paths(path, list_files(path))
    return _digest_files(path.parent, glob.escape(path.name))


def _list_inputs(cfg: Config) -> dict[str, Any]:
    """Describe the files and Delta tables behind `ingest.inputs`.

    Raises:
        ClimbError: an input does not exist, or only Spark can read it.
    """
    listing = find_files(cfg.ingest.inputs, cfg.ingest.format)
    tables: dict[str, Any] = {}
    for table in listing.tables:
        if not Path(table).is_absolute():
            raise TableError(f"only Spark can read the input delta:{table}")
        tables[table] = _format_change(read_last_commit(Path(table)))
    return {"files": listing.digest(), "tables": tables}


def _list_outputs(name: str, cfg: Config) -> dict[str, str]:
    """Hash names, sizes and times of the files that a job leaves."""
    folder = cfg.storage.files_folder
    found = {pattern: _digest_files(folder, pattern) for pattern in OUTPUTS.get(name, ())}
    if name == "report" and cfg.report.path is not None:
        path = Path(cfg.report.path).absolute()
        found["report.path"] = _stamp(path)
    if name == "mix":
        path = Path(cfg.mix.export or Path(cfg.storage.root) / "mixed").absolute()
        if is_uri(cfg.mix.export or ""):
            raise ClimbError(f"only Spark can read {cfg.mix.export}")
        found["mix.export"] = _digest_files(path.parent, f"{glob.escape(path.name)}*/**/*")
    return found


def _digest_files(folder: Path, pattern: str) -> str:
    return _digest_paths(folder, sorted(folder.glob(pattern)))


def _digest_paths(folder: Path, paths: Sequence[Path]) -> str:
    lines = []
    for path in paths:
        status = path.stat()
        size = status.st_size if path.is_file() else -1
        changed = status.st_mtime_ns if path.is_file() else 0
        lines.append(f"{path.relative_to(folder).as_posix()}\0{size}\0{changed}")
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    return f"{len(lines)} {hashlib.sha256(text).hexdigest()[:16]}"

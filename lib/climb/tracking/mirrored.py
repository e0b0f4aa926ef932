"""Check whether MLflow has everything: a file contains the digest of what was logged last.

Importing MLflow takes seconds, so this module does not import it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from climb.config import Config
from climb.tracking.uri import resolve_tracking_uri


def is_mirrored(cfg: Config, versions: Mapping[str, int | None]) -> bool:
    """Whether `mirror` and `mirror_models` would log nothing.

    Args:
        cfg: the configuration.
        versions: table -> version, for `trials`, `mixtures`, `evaluations` and `learning_curves`.
    """
    uri = resolve_tracking_uri(cfg)
    if uri is None or versions["trials"] is None:
        return True
    if not is_up_to_date(locate_marker(cfg), digest_state(cfg, uri, versions), uri):
        return False
    if versions["mixtures"] is None or versions["evaluations"] is None:
        return True
    return is_up_to_date(locate_models_marker(cfg), digest_models(cfg, uri, versions), uri)


def locate_report(cfg: Config) -> Path:
    """Return the path of the HTML report."""
    return Path(cfg.report.path) if cfg.report.path else cfg.storage.files_folder / "report.html"


def locate_marker(cfg: Config) -> Path:
    """Return the file with the digest of the state that MLflow has."""
    return cfg.storage.files_folder / "mlflow.mirrored"


def locate_models_marker(cfg: Config) -> Path:
    """Return the file with the digest of the target models that MLflow has."""
    return cfg.storage.files_folder / "mlflow.models"


def digest_models(cfg: Config, uri: str, versions: Mapping[str, int | None]) -> str:
    """Hash everything that determines what is logged about target models."""
    names = ("mixtures", "evaluations", "learning_curves")
    state = [uri, cfg.tracking.experiment, cfg.search.name, *(versions[name] for name in names)]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def digest_state(cfg: Config, uri: str, versions: Mapping[str, int | None]) -> str:
    """Hash everything that determines what is logged; the hash hides a password in the URI."""
    report = locate_report(cfg)
    state = {
        "uri": uri,
        "experiment": cfg.tracking.experiment,
        "artifacts": cfg.tracking.artifacts,
        "search": cfg.search.name,
        "objective": [cfg.search.objective, cfg.search.scale, cfg.search.down_weight],
        "trials": versions["trials"],
        "mixtures": versions["mixtures"],
        "report": hashlib.sha256(report.read_bytes()).hexdigest() if report.exists() else None,
    }
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def is_up_to_date(marker: Path, state: str, uri: str) -> bool:
    """Whether the file `marker` has this state, and the SQLite file, if any, still exists."""
    exists = not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).exists()
    return exists and marker.exists() and marker.read_text() == state

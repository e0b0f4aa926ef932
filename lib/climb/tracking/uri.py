"""Where MLflow runs are logged, and the command that shows them."""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
import sqlite3
import sys
from pathlib import Path

from climb.config import Config
from climb.config.uris import hide_credentials
from climb.errors import InfrastructureError, PreflightError
from climb.files import is_uri


def resolve_tracking_uri(cfg: Config) -> str | None:
    """Return the URI of the MLflow server or file; None if tracking is off or has no URI."""
    if not cfg.tracking.enabled:
        return None
    if cfg.tracking.uri is not None:
        return cfg.tracking.uri
    if is_uri(cfg.storage.root):
        return None
    return f"sqlite:///{Path(cfg.storage.root).absolute()}/mlflow.db"


def check_database(uri: str) -> None:
    """Check that an SQLite file, if it exists, can be opened.

    If the file cannot be opened, MLflow would retry for a long time.

    Raises:
        PreflightError: the file is not a database, or it cannot be read or written; or the
            installed MLflow (mlflow-skinny) cannot use SQLite files.
        InfrastructureError: another process writes to the file.
    """
    if uri.startswith("sqlite:") and importlib.util.find_spec("sqlalchemy") is None:
        raise PreflightError(
            "mlflow-skinny has no SQLite store; pip install 'climb-mixture[local]', or set "
            "tracking.uri to a server"
        )
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=2)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.rollback()
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise InfrastructureError(f"{path}: another process writes to it") from error
        remedy = "move the file away, or set another tracking.uri"
        raise PreflightError(f"{path}: {error}; {remedy}") from error


def format_open_command(cfg: Config) -> str:
    """Return the command, or the address, that shows the runs."""
    uri = resolve_tracking_uri(cfg)
    if uri is None:
        return "off (see tracking.enabled and tracking.uri)"
    if not uri.startswith("sqlite:"):
        return hide_credentials(uri)
    installed = Path(sys.executable).with_name("mlflow")
    program = str(installed) if installed.exists() else "mlflow"
    return f"{shlex.quote(program)} server --workers 1 --backend-store-uri {shlex.quote(uri)}"

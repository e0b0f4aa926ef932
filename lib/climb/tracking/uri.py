"""Where MLflow runs are logged, and the command that shows them."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from climb.config import Config
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


def hide_credentials(text: str) -> str:
    """Remove user and password from the URIs in a text."""
    return re.sub(r"//[^/@\s]*@", "//", text)

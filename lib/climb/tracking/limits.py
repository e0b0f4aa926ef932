"""Give MLflow short timeouts, and hide its log lines."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

QUICK = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    # On Databricks, the SDK retries for 500 s by default, and ignores the values above.
    "MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
"""Short timeouts: a server that is down must not delay the search. Values set by the user win."""


@contextlib.contextmanager
def limit_mlflow() -> Iterator[None]:
    """Set short timeouts and hide log lines of MLflow; environment variables of the user win."""
    set_here = {key: value for key, value in QUICK.items() if key not in os.environ}
    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow", "urllib3")]
    levels = [logger.level for logger in loggers]
    os.environ.update(set_here)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for key in set_here:
            os.environ.pop(key, None)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

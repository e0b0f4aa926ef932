"""The MLflow run of a search, which follows the newest result of the search."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from climb.tracking.values import ParentRun

FAMILIES = ("weight.", "gain.", "spearman.", "noise.", "signal_to_noise.")
"""Prefixes of the keys that contain the name of a domain, baseline or metric. A later
result may lack some of these keys."""


def update_parent(client: Any, parent: str, parent_run: ParentRun, files: list[Path]) -> None:
    """Log the changed metrics and tags of the parent run, and its files.

    Args:
        client: MLflow's client.
        parent: id of the parent run.
        parent_run: what the run should have.
        files: report and figures; if empty, the files of `parent_run` are not logged either.
    """
    from mlflow.entities import Metric, RunTag

    run, now = client.get_run(parent), int(time.time() * 1000)
    logged = run.data
    values = {**_list_vanished(logged.metrics, parent_run.metrics), **parent_run.metrics}
    metrics = [
        Metric(key, value, now, parent_run.step)
        for key, value in values.items()
        if not _is_equal(logged.metrics.get(key), value)
    ]
    tags = [RunTag(k, v) for k, v in parent_run.tags.items() if logged.tags.get(k) != v]
    if metrics or tags:
        client.log_batch(parent, metrics=metrics, tags=tags)
    for name, text in parent_run.files.items() if files else ():
        client.log_text(parent, text, name)
    if parent_run.files and run.info.status == "RUNNING":
        client.set_terminated(parent, "FINISHED")
    for path in files:
        if path.exists():
            folder = path.parent.name if path.suffix == ".svg" else None
            client.log_artifact(parent, str(path), folder)


def _list_vanished(logged: Mapping[str, float], new: Mapping[str, float]) -> dict[str, float]:
    """List the logged keys that `new` lacks, each with value NaN; none if `new` is empty."""
    lost = [key for key in logged if key.startswith(FAMILIES) and key not in new]
    return dict.fromkeys(lost, math.nan) if new else {}


def _is_equal(logged: float | None, value: float) -> bool:
    """Compare two metrics. Two NaNs count as equal, so an unknown value is not logged again."""
    return logged == value or (logged is not None and math.isnan(logged) and math.isnan(value))

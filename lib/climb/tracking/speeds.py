"""The speed of finished trials, from the runs that `client` has logged to MLflow."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from climb.config import Config
from climb.config.uris import hide_credentials
from climb.errors import InfrastructureError, InputError, one_line
from climb.tracking.limits import limit_mlflow
from climb.tracking.uri import check_database, resolve_tracking_uri

MAX_RUNS = 1000


@dataclass(frozen=True)
class TrialSpeed:
    """Number of tokens per second of one device, and the source of this number."""

    tokens_per_second: float
    source: str


def read_trial_speed(cfg: Config) -> TrialSpeed:
    """Read the median of tokens / seconds over the finished trials of an experiment.

    The median is useful only if the trials had the configured proxy, and each had a device of its
    own.

    Raises:
        InputError: tracking is off, or the experiment has no finished trial.
        PreflightError: the SQLite file of MLflow cannot be opened.
        InfrastructureError: MLflow cannot be read.
    """
    uri, name = resolve_tracking_uri(cfg), cfg.tracking.experiment
    if uri is None:
        raise InputError("--own-trials: tracking is off; set tracking.enabled and tracking.uri")
    shown = hide_credentials(uri)
    check_database(uri)
    try:
        runs = _find_trials(uri, name)
    except Exception as error:
        reason = hide_credentials(one_line(error, 1_000))[:160]
        raise InfrastructureError(f"--own-trials: cannot read {shown}: {reason}") from error
    speeds = [
        float(run.data.params["tokens"]) / run.data.metrics["seconds"]
        for run in runs
        if run.data.metrics.get("seconds", 0.0) > 0 and "tokens" in run.data.params
    ]
    if not speeds:
        raise InputError(
            f"--own-trials: experiment {name!r} of {shown} has no finished trial; set "
            "tracking.uri and tracking.experiment to those of an earlier run"
        )
    source = f"median of {len(speeds)} trials of experiment {name}, {shown}"
    return TrialSpeed(statistics.median(speeds), source)


def _find_trials(uri: str, experiment: str) -> list[Any]:
    """Find the latest finished trials of an experiment; none if there is no such experiment."""
    with limit_mlflow():
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            return []
        where = "tags.\"climb.kind\" = 'trial' and attributes.status = 'FINISHED'"
        return list(client.search_runs([found.experiment_id], where, max_results=MAX_RUNS))

"""A comparison as one MLflow run: a value per method and metric, the HTML page, the CSV file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from climb import tables
from climb.config import Config
from climb.tracking.client import attempt, ensure_experiment, log_values
from climb.tracking.limits import limit_mlflow
from climb.tracking.uri import check_database, resolve_tracking_uri
from climb.tracking.values import make_key

if TYPE_CHECKING:
    from climb.report.comparison import Cell
    from climb.spark.delta.store import Store
    from climb.spark.results.comparison import Done

KIND = "comparison"


def log_comparison(store: Store, cfg: Config, done: Done) -> bool:
    """Log a comparison, unless a finished run has the same CSV file; a failure becomes a warning.

    Returns:
        Whether nothing is left to log: after success, or if tracking is off.
    """
    logged = attempt(cfg, lambda uri: _log(store, cfg, done, uri))
    return logged is not None or resolve_tracking_uri(cfg) is None


def make_metrics(cells: Sequence[Cell]) -> dict[str, float]:
    """Make the metrics of the run: means with the ends of their intervals, and gains."""
    values: dict[str, float] = {}
    for cell in cells:
        key = f"{cell.metric}/{cell.method}"
        values[key] = cell.mean.mean
        if cell.mean.low is not None and cell.mean.high is not None:
            values |= {f"{key}.low": cell.mean.low, f"{key}.high": cell.mean.high}
        if cell.metric == "score":
            for other, gain in cell.gains.items():
                gains = {"mean": gain.mean, "low": gain.low, "high": gain.high}
                values |= {f"gain/{cell.method}/{other}.{k}": v for k, v in gains.items()}
    return {make_key(key): value for key, value in values.items()}


def _log(store: Store, cfg: Config, done: Done, uri: str) -> str:
    # Table `trials` identifies the store. If only fixed mixtures are compared, there is no such
    # table, and `evaluations` identifies the store.
    owner = tables.TRIALS if store.exists(tables.TRIALS) else tables.EVALUATIONS
    title = done.files[0].stem
    tags = {
        "climb.kind": KIND,
        "climb.store": store.history.read_table_id(owner),
        "climb.comparison": title,
        "climb.table": hashlib.sha256(done.files[1].read_bytes()).hexdigest()[:16],
    }
    check_database(uri)
    with limit_mlflow():
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        experiment = ensure_experiment(client, cfg, uri)
        where = " and ".join(f"tags.\"{key}\" = '{value}'" for key, value in tags.items())
        if client.search_runs([experiment], f"{where} and attributes.status = 'FINISHED'"):
            return "MLflow is up to date"
        run = client.create_run(experiment, tags={**tags, "mlflow.runName": f"{KIND} {title}"})
        run_id, now = run.info.run_id, run.info.start_time
        metrics = [(key, value, 0) for key, value in make_metrics(done.cells).items()]
        log_values(client, run_id, {}, metrics, now)
        for path in done.files if cfg.tracking.artifacts else ():
            client.log_artifact(run_id, str(path))
        client.set_terminated(run_id)
    return f"MLflow: {KIND} {done.name} logged"

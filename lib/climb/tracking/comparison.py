"""A comparison as one run of MLflow: a metric per method and measure, the page and the CSV file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from climb import tables
from climb.config import Config
from climb.tracking.client import attempt, ensure_experiment
from climb.tracking.limits import limit_mlflow
from climb.tracking.uri import check_database
from climb.tracking.values import make_key

if TYPE_CHECKING:
    from climb.report.comparison import Cell
    from climb.spark.delta.store import Store
    from climb.spark.results.comparison import Done

KIND = "comparison"


def log_comparison(store: Store, cfg: Config, done: Done) -> str | None:
    """Log a comparison that has changed; a failure becomes a warning."""
    if not done.cells:
        return None
    return attempt(cfg, lambda uri: _log(store, cfg, done, uri))


def make_metrics(cells: list[Cell]) -> dict[str, float]:
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
    check_database(uri)
    with limit_mlflow():
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        client = MlflowClient(tracking_uri=uri)
        experiment = ensure_experiment(client, cfg, uri)
        has_trials = store.exists(tables.TRIALS)  # fixed mixtures need none
        owner = tables.TRIALS if has_trials else tables.EVALUATIONS
        tags = {
            "climb.kind": KIND,
            "climb.store": store.history.read_table_id(owner),
            "climb.comparison": done.files[0].stem,
            "mlflow.runName": f"{KIND} {done.files[0].stem}",
        }
        run = client.create_run(experiment, tags=tags)
        run_id, now = run.info.run_id, run.info.start_time
        metrics = [Metric(k, v, now, 0) for k, v in make_metrics(list(done.cells)).items()]
        for start in range(0, len(metrics), 1000):
            client.log_batch(run_id, metrics=metrics[start : start + 1000])
        for path in done.files if cfg.tracking.artifacts else ():
            client.log_artifact(run_id, str(path))
        client.set_terminated(run_id)
    return f"MLflow: comparison {done.name} logged"

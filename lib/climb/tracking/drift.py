"""Log the drift of the clusters: one MLflow run per clustering, one step per growth of the corpus.

log_drift(store, cfg, clustering, drift)    # after documents were assigned
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING

from climb import tables
from climb.config import Config
from climb.domains.drift import Drift
from climb.files import write_if_changed
from climb.tracking.client import attempt, ensure_experiment
from climb.tracking.limits import limit_mlflow
from climb.tracking.mirrored import is_up_to_date
from climb.tracking.uri import check_database

if TYPE_CHECKING:
    from climb.spark.delta.store import Store


def log_drift(store: Store, cfg: Config, clustering: str, drift: Drift) -> None:
    """Log the numbers of `Drift.figures` as metrics of an MLflow run. Never raises.

    The step of the metrics is the number of documents. Numbers that are logged already are not
    logged again.
    """
    attempt(cfg, lambda uri: _update(store, cfg, uri, clustering, drift))


def _update(store: Store, cfg: Config, uri: str, clustering: str, drift: Drift) -> None:
    owner = store.history.read_table_id(tables.ASSIGNMENTS)
    figures = drift.figures()
    what = json.dumps([uri, cfg.tracking.experiment, owner, clustering, figures], sort_keys=True)
    state = hashlib.sha256(what.encode()).hexdigest()  # the URI may contain a password
    marker = store.locate_file("mlflow.drift")
    if is_up_to_date(marker, state, uri):  # importing MLflow takes seconds
        return
    check_database(uri)
    with limit_mlflow():
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        client = MlflowClient(tracking_uri=uri)
        experiment = ensure_experiment(client, cfg, uri)
        tags = {"climb.kind": "clustering", "climb.store": owner, "climb.clustering": clustering}
        where = " and ".join(f"tags.\"{key}\" = '{value}'" for key, value in tags.items())
        found = client.search_runs([experiment], where, max_results=1)
        if found:
            run_id = found[0].info.run_id
        else:
            name = {"mlflow.runName": f"clusters {clustering}"}
            run_id = client.create_run(experiment, tags=tags | name).info.run_id
        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, drift.n_now) for key, value in figures.items()]
        client.log_batch(run_id, metrics=metrics)
        client.set_terminated(run_id, "FINISHED")
    write_if_changed(marker, state.encode())

"""What job `train` writes for each model: a model card, and the rows of its learning curve."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from climb import tables
from climb.files import write_file
from climb.proxy import ProxyRun
from climb.proxy.card import ModelFacts, render_model_card
from climb.proxy.curve import read_curve
from climb.spark.delta.store import Store
from climb.spark.training.setup import TrainingSetup


@dataclass(frozen=True)
class PlannedModel:
    """One model that job `train` trains, and then records in table `evaluations`."""

    search: str
    """Name of the search that found the mixture."""

    method: str
    seed: int
    run: ProxyRun


def read_data_versions(store: Store) -> dict[str, int | None]:
    """Read versions of `shards` and `mixtures`, and of the tables that `shards` is made from."""
    inputs = store.history.read_inputs(tables.SHARDS)
    own = store.history.describe_inputs(tables.SHARDS, tables.MIXTURES)["read"]
    return {**(inputs["read"] if inputs else {}), **own}


def write_model_card(
    setup: TrainingSetup,
    model: PlannedModel,
    metrics: Mapping[str, float],
    versions: Mapping[str, int | None],
) -> None:
    """Write README.md into the folder of a model, if the model is kept."""
    if model.run.save is None:
        return
    proxy: Any = setup.proxy
    folder = Path(model.run.save)
    facts = ModelFacts(
        name=folder.name,
        search=model.search,
        method=model.method,
        seed=model.seed,
        weights=model.run.weights,
        natural=setup.natural,
        n_tokens=setup.n_tokens,
        base=setup.base_folder.name,
        base_tokens=setup.base_tokens,
        recipe=setup.recipe,
        settings={field.name: getattr(proxy, field.name) for field in fields(proxy)},
        processes=setup.processes,
        corpus_digest=setup.corpus_digest,
        versions=versions,
        metrics=metrics,
    )
    card = render_model_card(facts).encode()
    write_file(folder / "README.md", lambda: [card])


def commit_curves(store: Store, models: Mapping[str, PlannedModel]) -> None:
    """Write the learning curves whose files exist, in one commit, and delete the files.

    A curve replaces an earlier one of the same model. If the job is killed, the files stay, and the
    next start commits them.

    Args:
        store: has table `learning_curves`.
        models: name -> model, only for models that are recorded in `evaluations`.
    """
    files = {name: model.run.curve for name, model in models.items() if model.run.curve}
    curves = {name: read_curve(path) for name, path in files.items()}
    found = {name: curve for name, curve in curves.items() if curve is not None}
    if not found:
        return
    rows = [
        {
            "model": name,
            "method": models[name].method,
            "seed": models[name].seed,
            "step": point.step,
            "n_tokens": point.n_tokens,
            "loss": point.loss,
            "learning_rate": point.learning_rate,
            "metrics": dict(point.metrics),
        }
        for name, curve in found.items()
        for point in curve
    ]
    names = ", ".join(f"'{name}'" for name in sorted(found))
    frame = store.create_frame(rows, tables.LEARNING_CURVES)
    inputs = store.history.describe_inputs(tables.MIXTURES)
    store.replace(frame, tables.LEARNING_CURVES, inputs, f"model IN ({names})")
    for name in found:
        with contextlib.suppress(OSError):
            Path(files[name]).unlink()

"""Names of the metrics that a proxy measures on its targets."""

from __future__ import annotations

from collections.abc import Sequence

from climb.proxy import Target

METRICS = {"choices": ("bpb", "prob", "accuracy", "accuracy_norm"), "text": ("bpb",)}
"""Kind of a target -> its metrics."""

TRAIN_LOSS = "train.loss"
"""Metric of every run, in addition to those of its targets."""


def list_metrics(targets: Sequence[Target]) -> list[str]:
    """List the metrics of a run that is measured on these targets."""
    names = [f"{t.name}.{metric}" for t in targets for metric in METRICS[t.kind]]
    return sorted([*names, TRAIN_LOSS])

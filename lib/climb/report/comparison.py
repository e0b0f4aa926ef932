"""The table of a comparison: means over seeds with intervals, and gains paired by seed.

    cells = tabulate(methods, "mean(*.bpb):min")
    text = format_csv(methods, cells)

The table has these metrics: `score` (the objective), the metrics of the tasks (`arc.bpb`), and
means over tasks (`mean.bpb`). There is a mean for each measure that several tasks have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from climb.errors import ConfigError
from climb.files import format_csv as format_rows
from climb.objective import Objective
from climb.proxy.metrics import TRAIN_LOSS
from climb.report.measured import Mean, is_higher_better, mean_of
from climb.search.gains import Gain, paired_gain

SCORE = "score"
MEAN = "mean."
"""Prefix of the metrics that are means over tasks."""


@dataclass(frozen=True)
class MethodRuns:
    """The target models of one method."""

    name: str
    label: str
    n_trials: float
    """Mean over seeds of the number of trials that were used to find the method's mixture."""

    n_tokens: float
    metrics: Mapping[int, Mapping[str, float]]
    """Seed -> metrics of the target model with this seed."""


@dataclass(frozen=True)
class Cell:
    """One metric of one method."""

    method: str
    metric: str
    higher_is_better: bool
    values: Mapping[int, float]
    """Seed -> value of the metric."""

    mean: Mean
    gains: Mapping[str, Gain]
    """Other method -> gain of this method over the other method, paired by seed; above 0 is
    better."""


def tabulate(methods: Sequence[MethodRuns], objective: str) -> list[Cell]:
    """Compute all cells, sorted by metric as in `list_metrics`, and then by method.

    A mean over tasks is left out if the objective maximizes the measure of some tasks and minimizes
    it for other tasks.

    Args:
        methods: at least one method has a target model.
        objective: defines the score.

    Raises:
        ConfigError: the models do not have the metrics of the objective.
    """
    names = list_metrics(methods)
    plain = [name for name in names if name != SCORE and not name.startswith(MEAN)]
    scored = Objective.parse(objective, plain)
    signs = dict(zip(plain, np.sign(scored.weights_Q).tolist(), strict=True))
    cells = []
    for name in names:
        sign = _find_sign(name, signs)
        if not sign:
            continue
        values = {m.name: _collect(m, name, scored, plain) for m in methods}
        for own in values:
            if not values[own]:
                continue
            gains = {
                other: gain
                for other in values
                if other != own
                and (gain := paired_gain(values[own], values[other], sign)) is not None
            }
            mean = mean_of(list(values[own].values()))
            cells.append(Cell(own, name, sign > 0.0, values[own], mean, gains))
    return cells


def _find_sign(name: str, signs: Mapping[str, float]) -> float:
    """Return 1 if a higher value of a metric is better, -1 if a lower value is better.

    The sign comes from the objective. For a metric that the objective does not use, and for a mean
    of such metrics, the sign is guessed from the name (`is_higher_better`). The sign is 0 for a
    mean over tasks if the objective maximizes the measure of some tasks and minimizes it for other
    tasks.

    Args:
        name: metric of the table.
        signs: metric of a task -> its sign in the objective; 0 if the objective does not use it.
    """
    if name == SCORE:
        return 1.0
    kind = name.removeprefix(MEAN) if name.startswith(MEAN) else None
    found = {sign for task, sign in signs.items() if task == name or _get_kind(task) == kind}
    found.discard(0.0)
    if len(found) > 1:
        return 0.0
    return found.pop() if found else (1.0 if is_higher_better(name) else -1.0)


def _get_kind(task: str) -> str:
    """Return the measure in the name of a task's metric: `bpb` for `arc.bpb`."""
    return task.rpartition(".")[2]


def list_metrics(methods: Sequence[MethodRuns]) -> list[str]:
    """List the metrics that all models have, the score first, then means over tasks.

    Raises:
        ConfigError: there is no model, or no metric that all models have.
    """
    runs = [set(metrics) for method in methods for metrics in method.metrics.values()]
    shared = set.intersection(*runs) if runs else set[str]()
    common = sorted(name for name in shared if name != TRAIN_LOSS)
    if not common:
        raise ConfigError(
            "no metric was measured on all target models of the comparison: all models failed (the "
            "run log has their errors), or they have no metric in common"
        )
    counts = Counter(name.rpartition(".")[2] for name in common)
    return [SCORE, *(f"{MEAN}{kind}" for kind, n in sorted(counts.items()) if n > 1), *common]


def _collect(
    method: MethodRuns, name: str, objective: Objective, names: Sequence[str]
) -> dict[int, float]:
    """Return seed -> value of one metric; values that are not finite are left out."""
    found: dict[int, float] = {}
    for seed, metrics in sorted(method.metrics.items()):
        value: float | None
        if name == SCORE:
            value = objective.score_run(metrics)
        elif name.startswith(MEAN):
            kind = name.removeprefix(MEAN)
            value = float(np.mean([metrics[n] for n in names if n.rpartition(".")[2] == kind]))
        else:
            value = metrics[name]
        if value is not None and np.isfinite(value):
            found[seed] = value
    return found


def make_rows(
    name: str, methods: Sequence[MethodRuns], cells: Sequence[Cell]
) -> list[dict[str, Any]]:
    """Make the rows of table `comparisons` or `ablations`."""
    by_name = {method.name: (place, method) for place, method in enumerate(methods)}
    rows = []
    for cell in cells:
        place, method = by_name[cell.method]
        rows.append(
            {
                "name": name,
                "method": cell.method,
                "label": method.label,
                "place": place,
                "metric": cell.metric,
                "higher_is_better": cell.higher_is_better,
                "mean": cell.mean.mean,
                "low": cell.mean.low,
                "high": cell.mean.high,
                "by_seed": dict(cell.values),
                "gains": {other: asdict(gain) for other, gain in cell.gains.items()},
                "n_trials": method.n_trials,
                "n_tokens": method.n_tokens,
            }
        )
    return rows


def parse_rows(rows: Sequence[Mapping[str, Any]]) -> tuple[list[MethodRuns], list[Cell]]:
    """Read methods and cells from the rows of one comparison."""
    methods: dict[str, MethodRuns] = {}
    cells = []
    for row in sorted(rows, key=lambda row: int(row["place"])):
        name, values = row["method"], row["by_seed"]
        new = MethodRuns(name, row["label"], row["n_trials"], row["n_tokens"], {})
        runs = methods.setdefault(name, new)
        metrics = dict(runs.metrics)
        for seed, value in values.items():
            metrics[seed] = {**metrics.get(seed, {}), row["metric"]: value}
        methods[name] = replace(runs, metrics=metrics)
        cells.append(
            Cell(
                method=name,
                metric=row["metric"],
                higher_is_better=row["higher_is_better"],
                values=values,
                mean=Mean(row["mean"], row["low"], row["high"], len(values)),
                gains={other: Gain(**gain) for other, gain in row["gains"].items()},
            )
        )
    return list(methods.values()), cells


def format_csv(methods: Sequence[MethodRuns], cells: Sequence[Cell]) -> str:
    """Format a CSV file with a row per method; unknown values are empty.

    Columns: key and label of the method, its trials and tokens, its number of seeds, every metric
    with the ends of its interval, and the gain in score over every method.
    """
    by_key = {(cell.method, cell.metric): cell for cell in cells}
    metrics = list(dict.fromkeys(cell.metric for cell in cells))
    parts = ("", ".low", ".high")
    header = ["method", "label", "trials", "tokens", "seeds"]
    header += [f"{metric}{part}" for metric in metrics for part in parts]
    header += [f"gain.{m.name}{part}" for m in methods for part in parts]
    rows = []
    for method in methods:
        row: list[Any] = [method.name, method.label, method.n_trials, method.n_tokens]
        row.append(len(method.metrics))
        for metric in metrics:
            cell = by_key.get((method.name, metric))
            row += [cell.mean.mean, cell.mean.low, cell.mean.high] if cell else [None] * 3
        score = by_key.get((method.name, SCORE))
        for other in methods:
            gain = score.gains.get(other.name) if score else None
            row += [gain.mean, gain.low, gain.high] if gain else [None] * 3
        rows.append(row)
    return format_rows(header, rows)

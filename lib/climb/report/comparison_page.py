"""The page of a comparison, and its table as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from climb.config import Config, dump_yaml
from climb.config.uris import hide_credentials
from climb.report import charts
from climb.report.comparison import MEAN, SCORE, Cell, MethodRuns
from climb.report.formats import number, signed
from climb.report.template import render_template


@dataclass(frozen=True)
class MetricTable:
    """The table of one measure: the first column is the mean over tasks, the others are tasks."""

    name: str
    columns: tuple[tuple[str, str], ...]
    """Heading and metric of each column. If there is no mean, all columns are tasks."""

    directions: tuple[bool, ...]
    """For each column, whether higher values are better."""

    @property
    def higher_is_better(self) -> bool | None:
        """Whether higher values are better in all columns; None if the columns differ in this."""
        return self.directions[0] if len(set(self.directions)) == 1 else None


def render_comparison(
    name: str, cfg: Config, methods: Sequence[MethodRuns], cells: Sequence[Cell]
) -> str:
    """Render the page. Equal values give equal text. The page loads nothing from a network."""
    by_key = {(cell.method, cell.metric): cell for cell in cells}
    scores = {m.name: by_key[m.name, SCORE] for m in methods if (m.name, SCORE) in by_key}
    first = list_leaders(methods, scores)
    labels = {m.name: m.label for m in methods}
    gains = [
        (f"{labels[first[0]]}, against {labels[other]}", gain)
        for other, gain in (scores[first[0]].gains.items() if first else ())
    ]
    return render_template(
        "comparison.html.jinja",
        name=name,
        objective=cfg.search.objective,
        methods=methods,
        cell=by_key,
        leader=first[0] if first else None,
        leader_label=labels[first[0]] if first else None,
        verdict=describe_leader(methods, scores),
        is_clear=len(gains) == len(methods) - 1 > 0 and all(gain.low > 0.0 for _, gain in gains),
        tables=list_tables(cells, cfg.search.objective),
        chart=charts.gain_chart(gains) if gains else "",
        score=SCORE,
        configuration=hide_credentials(dump_yaml(cfg)),
    )


def list_leaders(methods: Sequence[MethodRuns], scores: Mapping[str, Cell]) -> list[str]:
    """Order the names of the methods by their mean score, best first."""
    names = [method.name for method in methods if method.name in scores]
    return sorted(names, key=lambda name: -scores[name].mean.mean)


def describe_leader(methods: Sequence[MethodRuns], scores: Mapping[str, Cell]) -> str:
    """State which method has the highest mean score, and over which methods its gain is clear."""
    order = list_leaders(methods, scores)
    if not order:
        return "No target model is trained yet."
    labels = {method.name: method.label for method in methods}
    gains = scores[order[0]].gains
    clear = [name for name in order[1:] if name in gains and gains[name].low > 0.0]
    unclear = [name for name in order[1:] if name not in clear]
    over, not_over = (", ".join(labels[name] for name in names) for names in (clear, unclear))
    text = f"{labels[order[0]]} has the highest mean score."
    if clear:
        text += f" Its gain over {over} is clear: the 90 % interval is above 0."
    if unclear:
        text += f" No 90 % interval shows a gain over {not_over}."
    return text


def list_tables(cells: Sequence[Cell], objective: str) -> list[MetricTable]:
    """List the tables, one per measure; measures that the objective uses come first."""
    metrics = {cell.metric: cell.higher_is_better for cell in cells}
    kinds: dict[str, list[str]] = {}
    for metric in metrics:
        if metric != SCORE and not metric.startswith(MEAN):
            kinds.setdefault(metric.rpartition(".")[2], []).append(metric)
    found = []
    for kind in sorted(kinds, key=lambda kind: (f".{kind}" not in objective, kind)):
        mean = [("mean", f"{MEAN}{kind}")] if f"{MEAN}{kind}" in metrics else []
        tasks = [(metric.rpartition(".")[0], metric) for metric in kinds[kind]]
        columns = (*mean, *tasks)
        directions = tuple(metrics[metric] for _, metric in columns)
        found.append(MetricTable(kind, columns, directions))
    return found


def format_text(methods: Sequence[MethodRuns], cells: Sequence[Cell]) -> str:
    """Format the scores as a Markdown table, with the gain over the first method."""
    by_key = {(cell.method, cell.metric): cell for cell in cells}
    reference = methods[0]
    means = [m for m in dict.fromkeys(cell.metric for cell in cells) if m.startswith(MEAN)]
    header = ["method", "trials", "seeds", "score", f"gain over {reference.label}", *means]
    lines = [header, ["---"] * len(header)]
    for method in methods:
        score = by_key.get((method.name, SCORE))
        row = [method.label, f"{method.n_trials:g}", str(len(method.metrics))]
        row.append(_format_interval(score) if score else "-")
        gain = score.gains.get(reference.name) if score else None
        row.append(
            f"{signed(gain.mean)} [{signed(gain.low)}, {signed(gain.high)}]" if gain else "-"
        )
        found = [by_key.get((method.name, metric)) for metric in means]
        lines.append(row + [number(cell.mean.mean) if cell else "-" for cell in found])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _format_interval(cell: Cell) -> str:
    mean = cell.mean
    if mean.low is None:
        return number(mean.mean)
    return f"{number(mean.mean)} [{number(mean.low)}, {number(mean.high)}]"

"""Write the results of a comparison: a Delta table, a CSV file and an HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from climb.files import write_if_changed
from climb.progress import log
from climb.report.comparison import Cell, MethodRuns, format_csv, make_rows, parse_rows, tabulate
from climb.report.comparison_page import format_text, render_comparison
from climb.spark.delta.history import Inputs
from climb.spark.delta.store import Store
from climb.spark.training.compare import Progress, Trainer
from climb.tables import DOMAINS, EVALUATIONS, MIXTURES, SHARDS, Table


@dataclass(frozen=True)
class Done:
    """What a comparison has written."""

    name: str
    text: str
    """The text that the job returns."""

    files: tuple[Path, ...]
    cells: Sequence[Cell]
    n_failed: int = 0


def run_comparison(trainer: Trainer, table: Table, name: str) -> Done:
    """Train what is missing; write the files after every seed, and the table at the end.

    Args:
        trainer: of the methods.
        table: `comparisons` or `ablations`.
        name: of the comparison.

    Raises:
        ClimbError: see `Trainer.train`.
    """
    store, scope = trainer.store, f"name = '{name}'"
    files = locate_files(store, trainer.stage, name)
    if store.history.is_current(table, _describe(trainer), scope) and all(
        path.exists() for path in files
    ):
        runs, cells = parse_rows(store.read_rows(table, name=name))
        text = f"{name} is up to date: {files[0]}\n\n{format_text(runs, cells)}"
        return Done(name, text, files, cells)
    progress, cells = None, []
    for progress in trainer.train():
        cells = tabulate(progress.runs, trainer.cfg.search.objective)
        write_files(files, name, trainer, progress, cells)
    assert progress is not None, "a comparison has a seed"
    frame = store.create_frame(make_rows(name, progress.runs, cells), table)
    inputs = _describe(trainer)
    if progress.n_failed:  # so that the next start does not treat the rows as complete
        inputs["settings"]["n_failed"] = progress.n_failed
    store.replace(frame, table, inputs, scope)
    trained = f"{progress.n_paid:g} trials paid for, {progress.n_shared} of them shared"
    failed = f"; {progress.n_failed} target models failed" if progress.n_failed else ""
    lines = [f"{name}: {trained}{failed}; {files[0]}", "", format_text(progress.runs, cells)]
    return Done(name, "\n".join(lines), files, cells, progress.n_failed)


def locate_files(store: Store, stage: str, name: str) -> tuple[Path, Path]:
    """Return the paths of the HTML page and of the CSV file."""
    folder = store.locate_file("comparisons")
    return folder / f"{stage}-{name}.html", folder / f"{stage}-{name}.csv"


def write_files(
    files: Sequence[Path], name: str, trainer: Trainer, progress: Progress, cells: Sequence[Cell]
) -> None:
    """Write page and CSV file, if they have changed."""
    page, table = files
    runs: Sequence[MethodRuns] = progress.runs
    text = render_comparison(name, trainer.cfg, runs, cells)
    written = [
        write_if_changed(page, text.encode("utf-8", errors="replace")),
        write_if_changed(table, format_csv(runs, cells).encode()),
    ]
    n = max((len(run.metrics) for run in runs), default=0)
    if any(written):
        log(trainer.stage, f"table with {n} of {trainer.seeds} seeds: {page}")


def _describe(trainer: Trainer) -> Inputs:
    """Describe what the rows are made from."""
    cfg = trainer.cfg
    return trainer.store.history.describe_inputs(
        DOMAINS,
        SHARDS,
        MIXTURES,
        EVALUATIONS,
        search=cfg.search,
        section=getattr(cfg, trainer.stage),
        doremi=cfg.doremi,
        **trainer.recipes,
    )

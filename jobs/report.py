"""Write the report: the recommendation, its evidence and its uncertainty, in one HTML file.

documents, rejected, clusters, domains, trials, rungs, mixtures, corpus,
evaluations -> report.html

Rerun it at any time: equal tables give an equal file, and an equal file is not written again.
"""

from pathlib import Path

from climb.cli.start import main
from climb.config import Config
from climb.files import write_if_changed
from climb.report import draw_figures, render
from climb.spark.delta.store import Store
from climb.spark.results.report import read_report
from climb.spark.results.summary import summarize
from climb.tracking.client import mirror
from climb.tracking.models import mirror_models
from climb.tracking.uri import format_open_command


def run(store: Store, cfg: Config) -> str:
    """Write the report and its figures, mirror the runs to MLflow, and return a summary.

    A file that has the same content already is not written again.
    """
    data = read_report(store, cfg)
    page = render(data).encode("utf-8", errors="replace")
    path = Path(cfg.report.path) if cfg.report.path else store.locate_file("report.html")
    written = write_if_changed(path, page)
    for name, figure in draw_figures(data).items():
        write_if_changed(store.locate_file("figures") / f"{name}.svg", figure.encode())
    tracked = mirror(store, cfg)
    mirror_models(store, cfg)
    done = f"{path} {f'written, {len(page) // 1024} kB' if written else 'is up to date'}"
    locations = {
        "tables": store.cfg.catalog or store.locate_folder("tables"),
        "dataset": _describe_dataset(store, cfg, data.other_dataset),
        "report": str(path),
        "MLflow": format_open_command(cfg),
    }
    first = "; ".join(part for part in (done, tracked) if part)
    return f"{first}\n{summarize(data, locations)}"


def _describe_dataset(store: Store, cfg: Config, other: str) -> str:
    """Return the path of the mixed dataset; if the dataset is out of date, a hint to make it again.

    If it is out of date, `other` says what it was made from, for example an earlier recommendation.
    Otherwise `other` is empty.
    """
    path = cfg.mix.export or store.locate_folder("mixed")
    return f"run `climb mix`: {path} was made from {other}" if other else path


if __name__ == "__main__":
    main(run)

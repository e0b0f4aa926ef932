"""Write the report: the answer, how sure it is, and what it stands on, in one HTML file.

documents, rejected, tokenizers, clusters, domains, shards, trials, mixtures, corpus,
evaluations -> report.html

Rerun it at any time: equal tables give equal bytes, and an equal file is not written again.
"""

from pathlib import Path

from climb.config import Config
from climb.files import write_if_other
from climb.report import figures, render
from climb.run import main
from climb.spark.report import read_report
from climb.spark.store import Store
from climb.tracking import mirror


def run(store: Store, cfg: Config) -> str:
    """Render the tables, write what differs from what is there, and mirror the runs to MLflow."""
    data = read_report(store, cfg)
    page = render(data).encode("utf-8", errors="replace")
    path = Path(cfg.report.path) if cfg.report.path else store.files("report.html")
    written = write_if_other(path, page)
    for name, drawing in figures(data).items():
        write_if_other(store.files("figures") / f"{name}.svg", drawing.encode())
    tracked = mirror(store, cfg)
    done = f"{path} {f'written, {len(page) // 1024} kB' if written else 'is up to date'}"
    return "; ".join(part for part in (done, tracked) if part)


if __name__ == "__main__":
    main(run)

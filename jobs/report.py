"""Write the report: the answer, how sure it is, and what it stands on, in one HTML file.

documents, rejected, clusters, domains, trials, mixtures, corpus, evaluations -> report.html

Rerun it at any time: equal tables give equal bytes, and an equal file is not written again.
"""

from pathlib import Path

from climb.config import Config
from climb.files import replacing
from climb.report import render
from climb.run import main
from climb.spark.report import read_report
from climb.spark.store import Store
from climb.tracking import mirror


def run(store: Store, cfg: Config) -> str:
    """Render the tables, write the file unless it is the same, and mirror the runs to MLflow."""
    page = render(read_report(store, cfg)).encode("utf-8", errors="replace")
    path = Path(cfg.report.path) if cfg.report.path else store.files("report.html")
    same = path.exists() and path.read_bytes() == page
    if not same:
        with replacing(path) as stream:
            stream.write(page)
    tracked = mirror(store, cfg)
    done = f"{path} {'is up to date' if same else f'written, {len(page) // 1024} kB'}"
    return "; ".join(part for part in (done, tracked) if part)


if __name__ == "__main__":
    main(run)

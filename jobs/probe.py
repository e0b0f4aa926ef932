"""Ask the platform what documentation does not say, and print a table to paste into an issue.

files, executors -> table

Rerun it at any time: it removes the files and tables that it writes. It takes five minutes on one
node at most, and needs no data. A refusal or an error is a row, and stops nothing.
"""

from climb.cli.start import main
from climb.config import Config
from climb.spark.delta.store import Store
from climb.spark.probe.platform import probe_platform
from climb.spark.probe.rows import format_rows


def run(store: Store, cfg: Config) -> str:
    """Ask all questions."""
    files = cfg.storage.files_folder
    return format_rows(probe_platform(store.session, files, cfg.storage.catalog))


if __name__ == "__main__":
    main(run)

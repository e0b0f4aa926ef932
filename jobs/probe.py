"""Test what the platform supports, and print a table to paste into an issue.

files, executors -> table

Rerun it at any time: it removes the files and tables that it writes, and needs no data. An error
becomes a row of the table, and the other tests still run. Tasks are cancelled after two minutes.
"""

from climb.cli.start import main
from climb.config import Config
from climb.spark.delta.store import Store
from climb.spark.probe.platform import probe_platform
from climb.spark.probe.rows import format_rows


def run(store: Store, cfg: Config) -> str:
    """Run all tests, and format their rows."""
    files = cfg.storage.files_folder
    return format_rows(probe_platform(store.session, files, cfg.storage.catalog))


if __name__ == "__main__":
    main(run)

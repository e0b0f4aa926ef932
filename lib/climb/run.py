"""How a job starts: configuration, checks of the machine, one session, and one line at the end."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from climb.config import Config, load
from climb.errors import ClimbError
from climb.preflight import preflight
from climb.progress import say

if TYPE_CHECKING:
    from climb.spark.store import Store

Job = Callable[["Store", Config], str]
"""A job reads and writes tables, and returns one line: what it did and what it skipped."""

PIPELINE = (
    *("ingest", "count", "embed", "score", "cluster", "prune"),
    *("pack", "search", "mix", "train", "report"),
)
"""All jobs in order."""


def main(job: Job) -> None:
    """Run a job as a script: `spark-submit jobs/NAME.py --conf FILE --set section.key=value`."""

    main_of([(Path(sys.argv[0]).stem, job)])


def main_of(jobs: Sequence[tuple[str, Job]]) -> None:
    """Run jobs as a script, in one session."""

    @click.command(help=(sys.modules["__main__"].__doc__ or "").strip())
    @options
    def command(conf: str | None, settings: tuple[str, ...]) -> None:
        start(jobs, conf, settings)

    guarded(command)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --conf and --set, which every command that reads the configuration takes."""
    command = click.option(
        "--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one value."
    )(command)
    return click.option("--conf", metavar="FILE", help="YAML laid over conf/default.yaml.")(command)


def guarded(command: click.Command) -> None:
    """Run a command; print a user's mistake as one line and exit 1, keep every other traceback.

    Success returns: Databricks takes any SystemExit for a failure.
    """
    try:
        command.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        if done.exit_code:
            sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(1)
    except click.Abort:
        sys.exit(130)
    except ClimbError as error:
        print(f"climb: error: {error}", file=sys.stderr)
        sys.exit(1)


def named(jobs: Sequence[str]) -> list[tuple[str, Job]]:
    """The jobs by name, imported."""
    return [(name, importlib.import_module(f"climb.jobs.{name}").run) for name in jobs]


def start(jobs: Sequence[tuple[str, Job]], conf: str | None, settings: Sequence[str]) -> None:
    """Run jobs one after the other in one Spark session, with a line for each."""
    signal.signal(signal.SIGTERM, _terminate)
    cfg = load(conf, settings)
    preflight(cfg, [name for name, _ in jobs])
    # A busy two-core machine: torch in the driver must not fight with the tasks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    from climb.spark.session import start_session
    from climb.spark.store import Store

    began = time.monotonic()
    session = start_session(cfg.spark)
    say("spark", f"session on {session.sparkContext.master}  ({time.monotonic() - began:.1f} s)")
    store = Store(session, cfg.storage)
    for name, job in jobs:
        began = time.monotonic()
        done = job(store, cfg)
        say(name, f"{done}  ({time.monotonic() - began:.1f} s)")
    if jobs[-1][0] == PIPELINE[-1]:
        from climb.spark.summary import summarise

        print(summarise(store, cfg))


def _terminate(signum: int, _frame: object) -> NoReturn:
    """SIGTERM (a reclaimed machine) leaves through `finally` blocks: nothing stays half-written."""
    sys.exit(128 + signum)

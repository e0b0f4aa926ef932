"""Start jobs: load the configuration, check the machine, start Spark, print one line per job."""

from __future__ import annotations

import importlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from climb.cli.finished.records import check_job, record_job
from climb.cli.finished.state import STARTS, Used
from climb.cli.lock import hold_locks
from climb.cli.plugins import list_task_packages
from climb.cli.preflight import run_preflight
from climb.config import Config, load
from climb.errors import ClimbError
from climb.export.formats import FORMATS
from climb.progress import log

if TYPE_CHECKING:
    from climb.spark.delta.store import Store

SUGGESTED = "megatron"
"""Export format in the example command that a run prints at its end (`suggest_export`)."""

Job = Callable[["Store", Config], str]
"""A job reads and writes tables, and returns text. The first line says what it wrote and what it
skipped; further lines are printed unchanged."""

PIPELINE = (
    *("ingest", "count", "embed", "score", "cluster", "prune"),
    *("pack", "base", "search", "mix", "target_base", "train", "report"),
)
"""The jobs of `climb run`, in their order."""

EXCLUSIVE = ("remove", "maintain", "contamination")
"""Jobs that write tables of the pipeline. While one of these jobs runs, no job of the pipeline
and no other job of this list can start."""


class Unfinished(str):
    """What a job returns if a part of its work failed. The next start tries that part again."""


def main(job: Job) -> None:
    """Run a job as a script: `spark-submit jobs/NAME.py --conf FILE --set section.key=value`."""

    run_script([(Path(sys.argv[0]).stem, job)])


def run_script(jobs: Sequence[tuple[str, Job]], skip: bool = False) -> None:
    """Run jobs as a script, in one Spark session; `skip` as in `run_jobs`."""

    @click.command(help=(sys.modules["__main__"].__doc__ or "").strip())
    @add_config_options
    def command(conf: tuple[str, ...], settings: tuple[str, ...]) -> None:
        run_jobs(jobs, conf, settings, skip)

    run_command(command)


def add_config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options --conf and --set to a command that reads the configuration."""
    command = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        help="Set one configuration value; may be repeated.",
    )(command)
    return click.option(
        "--conf",
        multiple=True,
        metavar="FILE",
        help="YAML file whose values override conf/default.yaml; may be repeated: later files win.",
    )(command)


def run_command(command: click.Command) -> None:
    """Run a command; end the process if it fails.

    A ClimbError is printed as one line. A wrong option is printed in the format of click. In both
    cases the exit code is 1. After an interruption it is 130. Other exceptions keep a traceback.
    On success no SystemExit is raised, because Databricks treats every SystemExit as a failure.
    """
    try:
        # click returns the exit code if the command raised `Exit`, else the command's result: None.
        if code := command.main(standalone_mode=False):
            sys.exit(code)
    except click.ClickException as error:
        error.show()
        sys.exit(1)
    except click.Abort:
        sys.exit(130)
    except ClimbError as error:
        print(f"climb: error: {error}", file=sys.stderr)
        sys.exit(1)


def import_jobs(names: Sequence[str]) -> list[tuple[str, Job]]:
    """Return (name, job) pairs. A job is imported when it runs, since its module imports Spark."""
    return [(name, partial(_run_job, name)) for name in names]


def _run_job(name: str, store: Store, cfg: Config) -> str:
    job: Job = importlib.import_module(f"climb.jobs.{name}").run
    return job(store, cfg)


def run_jobs(
    jobs: Sequence[tuple[str, Job]],
    conf: Sequence[str],
    settings: Sequence[str],
    skip: bool = False,
) -> None:
    """Run jobs one after the other in one Spark session, and print what each returns.

    Args:
        jobs: names and jobs.
        conf: files of the options --conf.
        settings: values of the options --set.
        skip: whether a job is left out if nothing has changed since it ended
            (`climb.cli.finished`). If all jobs are left out, Spark does not start.
    """
    signal.signal(signal.SIGTERM, _terminate)
    cfg = load(conf, settings)
    names = [name for name, _ in jobs]
    run_preflight(cfg, add_started(names))
    # Tokenizer threads in the driver would slow down the tasks on a machine with few cores.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    others = () if set(names).isdisjoint(EXCLUSIVE) else (*PIPELINE, *EXCLUSIVE)
    locked = list(dict.fromkeys([*add_started(names), *others]))
    running = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    with hold_locks(cfg.storage.files_folder / "locks", locked, running):
        _run_all(jobs, cfg, skip)
    if "mix" in names:
        print(suggest_export(cfg, conf, settings))


def add_started(names: Sequence[str]) -> list[str]:
    """List these jobs and the jobs that they start."""
    started = [inner for name in names for inner in STARTS.get(name, ())]
    return list(dict.fromkeys([*names, *started]))


def suggest_export(cfg: Config, conf: Sequence[str], settings: Sequence[str]) -> str:
    """Return the command that exports the dataset of a run for a trainer."""
    program = Path(sys.executable).with_name("climb")
    options = [option for file in conf for option in ("--conf", file)]
    for setting in settings:
        options += ["--set", setting]
    out = cfg.storage.files_folder / SUGGESTED
    command = [str(program) if program.exists() else "climb", "export", *options]
    command += ["--to", SUGGESTED, "--out", str(out), "--verify"]
    return f"trainer  {shlex.join(command)}  (or another of {len(FORMATS)} formats: docs/export.md)"


def _run_all(jobs: Sequence[tuple[str, Job]], cfg: Config, skip: bool) -> None:
    """Run the jobs in order; the first one that has something to do starts Spark."""
    store, names = None, [name for name, _ in jobs]
    for name, job in jobs:
        verdict = check_job(name, cfg) if skip else None
        if verdict is not None and verdict.is_done:
            log(name, verdict.reason)
            summary = verdict.summary
        else:
            store = store if store is not None else _open_store(cfg, names)
            summary = _run_one(name, job, store, cfg)
        if summary:
            print(summary)


def _open_store(cfg: Config, names: Sequence[str]) -> Store:
    """Start Spark for these jobs."""
    from climb.spark.delta.store import Store
    from climb.spark.device import uses_sql_plugin
    from climb.spark.executors import check_executors
    from climb.spark.session import start_session

    started = time.monotonic()
    session = start_session(cfg.spark, cfg.storage.files_folder)
    if names != ["probe"]:  # job `probe` itself reports what executors lack, and continues
        check_executors(session, list_task_packages(cfg, add_started(names)))
    sql = ", Spark SQL on GPUs (RAPIDS)" if uses_sql_plugin(session) else ""
    master = session.sparkContext.master
    log("spark", f"session on {master}{sql}  ({time.monotonic() - started:.1f} s)")
    return Store(session, cfg.storage)


def _run_one(name: str, job: Job, store: Store, cfg: Config) -> str:
    """Run a job, print its first line and record its end; return its further lines."""
    started = time.monotonic()
    store.used.clear()
    store.used_folders.clear()
    with record_job(name, cfg) as record:
        record.text = job(store, cfg)
        record.used = Used(sorted(store.used), sorted(store.used_folders))
        record.is_complete = not isinstance(record.text, Unfinished)
    line, _, summary = record.text.partition("\n")
    log(name, f"{line}  ({time.monotonic() - started:.1f} s)")
    return summary


def _terminate(signum: int, _frame: object) -> NoReturn:
    """Exit through `finally` blocks on SIGTERM, so that no file is left half-written."""
    sys.exit(128 + signum)

"""The record of a finished job, and whether its state is still the same.

A record is a file `finished/JOB.json` below storage.root. A job deletes its record when it
starts, and writes a new one when it ends. So a job that was killed has no record.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from climb.cli.finished.state import (
    SETTINGS,
    STARTS,
    State,
    Used,
    describe_state,
    find_obstacle,
    read_changes,
)
from climb.config import Config
from climb.errors import ClimbError
from climb.files import write_file
from climb.tables import TABLES
from climb.tracking.mirrored import is_mirrored

FORMAT = 1

EVERYTHING = Used(tables=tuple(table.name for table in TABLES))

NEEDED_BY = {"base": "search", "target_base": "train"}
"""Job -> the later job that needs its files. Once the later job is done, the files are not needed
again."""

PARTS = {
    "code": "the code of climb has changed",
    "storage": "storage.root or storage.files has changed",
    "inputs": "the input files have changed",
}


@dataclass(frozen=True)
class Verdict:
    """Whether a job has nothing to do."""

    is_done: bool
    reason: str
    """If the job is done: when it ended and what it wrote, or that a later job is up to date and
    does not need the files of this job. Otherwise: why the job has to run."""

    used: tuple[str, ...] = ()
    """Tables that the job reads or writes; empty if they are unknown."""

    summary: str = ""
    """What the job returned, without the first line."""


class RunningJob:
    """What a run of a job reports to its record."""

    def __init__(self) -> None:
        self.text = ""
        """What the job returned."""

        self.used = Used()
        """Tables and folders that it has used."""

        self.is_complete = True
        """Whether nothing is left for the next start."""


@contextlib.contextmanager
def record_job(name: str, cfg: Config) -> Iterator[RunningJob]:
    """Delete the old record of a job, and write a new one if the block ends without an error.

    The new record has the state of the inputs from before the block. If another program changes an
    input during the block, the next start sees a difference, and runs the job again. For the job's
    own tables and files, the record has the state after the block. No record is written for a job
    that is not in SETTINGS, or that is not complete.
    """
    job = RunningJob()
    if name not in SETTINGS:
        yield job
        return
    with contextlib.suppress(OSError):
        _locate(name, cfg).unlink(missing_ok=True)
    before = _describe(name, cfg, EVERYTHING)
    yield job
    after = _describe(name, cfg, job.used) if job.is_complete else None
    if before is None or after is None:
        return
    writers = {name, *STARTS.get(name, ())}
    own = {table.name for table in TABLES if writers & {table.writer, *table.also_written_by}}
    for table in after["tables"].keys() - own:
        after["tables"][table] = before["tables"][table]
    state = before | {"tables": after["tables"], "files": after["files"]}
    ended = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    folders = sorted(job.used.folders)
    record = {"format": FORMAT, "ended": ended, "text": job.text}
    record |= {"state": state, "folders": folders}
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    with contextlib.suppress(OSError):  # without a record, the job decides inside Spark
        write_file(_locate(name, cfg), lambda: [text.encode()])


def check_job(name: str, cfg: Config) -> Verdict:
    """Check whether a job is done: nothing changed since it ended, or its files are not needed."""
    verdict = _check_own(name, cfg)
    later = NEEDED_BY.get(name)
    if not verdict.is_done and later is not None and (needs := _check_own(later, cfg)).is_done:
        return Verdict(True, f"not needed, `{later}` is up to date", needs.used)
    return verdict


def _check_own(name: str, cfg: Config) -> Verdict:
    obstacle = find_obstacle(cfg)
    if obstacle is not None:
        return Verdict(False, f"only Spark can check this job: {obstacle}")
    record = _read(name, cfg)
    if record is None:
        return Verdict(False, _explain_missing(name, cfg))
    before: State = record["state"]
    used = tuple(sorted(before["tables"]))
    try:
        state = describe_state(name, cfg, Used(used, record["folders"]))
        now = json.loads(json.dumps(state))
        changes = list(_compare(before, now)) or list(_find_unlogged(name, cfg))
    except (ClimbError, OSError) as error:
        return Verdict(False, str(error), used)
    if changes:
        return Verdict(False, "; ".join(changes), used)
    line, _, summary = str(record["text"]).partition("\n")
    return Verdict(True, f"up to date since {record['ended']}: {line}", used, summary)


def _explain_missing(name: str, cfg: Config) -> str:
    """Explain why a job has no record."""
    try:
        describe_state(name, cfg, Used())
    except (ClimbError, OSError) as error:
        return str(error)
    return "the job has not run to its end yet"


def _describe(name: str, cfg: Config, used: Used) -> State | None:
    """Describe the state; None if it cannot be read without Spark."""
    try:
        return describe_state(name, cfg, used) if find_obstacle(cfg) is None else None
    except (ClimbError, OSError):
        return None


def _compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Describe what differs between two states."""
    for part, text in PARTS.items():
        if before.get(part) != now[part]:
            yield text
    yield from _compare_settings(before.get("settings"), now["settings"], "")
    for key in _list_changed(before.get("models"), now["models"]):
        yield f"the files of {key} have changed"
    for key in _list_changed(before.get("tables"), now["tables"]):
        then, new = before["tables"].get(key), now["tables"].get(key)
        shown = ["missing" if change is None else f"version {change[0]}" for change in (new, then)]
        yield f"table {key} has changed ({shown[0]}, was {shown[1]})"
    for key in _list_changed(before.get("files"), now["files"]):
        yield f"the files {key} have changed"


def _compare_settings(before: Any, now: Any, path: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            inner = f"{path}.{key}" if path else key
            yield from _compare_settings(before.get(key), now.get(key), inner)
    elif before != now:
        values = [json.dumps(value) for value in (now, before)]
        short = [value if len(value) <= 40 else f"{value[:40]}..." for value in values]
        yield f"{path} is {short[0]}, was {short[1]}"


def _list_changed(before: Any, now: Mapping[str, Any]) -> list[str]:
    earlier = before if isinstance(before, dict) else {}
    keys = sorted(earlier.keys() | now.keys())
    return [key for key in keys if key not in earlier or earlier[key] != now.get(key)]


def _find_unlogged(name: str, cfg: Config) -> Iterator[str]:
    """Yield a reason to run job `report` if MLflow lacks runs: that job logs them."""
    if name != "report":
        return
    names = ("trials", "mixtures", "evaluations", "learning_curves")
    changes = read_changes(cfg, names)
    versions = {table: change[0] if change else None for table, change in changes.items()}
    if not is_mirrored(cfg, versions):
        yield "MLflow does not have all runs"


def _locate(name: str, cfg: Config) -> Path:
    return Path(cfg.storage.root).absolute() / "finished" / f"{name}.json"


def _read(name: str, cfg: Config) -> dict[str, Any] | None:
    """Read a record; None if no record in the format of this version exists."""
    try:
        record = json.loads(_locate(name, cfg).read_text(encoding="utf-8"))
        is_valid = record["format"] == FORMAT and isinstance(record["state"]["tables"], dict)
        return record if is_valid and isinstance(record["folders"], list) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None

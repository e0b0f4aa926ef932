"""One driver per job and storage root: a second one stops with an error of one line."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import socket
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from climb.errors import PreflightError
from climb.progress import log


@contextlib.contextmanager
def hold_locks(folder: Path, jobs: Sequence[str]) -> Iterator[None]:
    """Lock these jobs while the block runs. The system releases the locks of a killed process.

    Different jobs may run at the same time, as the tasks of a Databricks job do.

    Args:
        folder: folder of the lock files, the same for every driver of a storage root.
        jobs: names of the jobs.

    Raises:
        PreflightError: another process holds the lock of a job; the message says which, and since
            when.
    """
    with contextlib.ExitStack() as stack:
        for job in jobs:
            stream = stack.enter_context(_open(folder / f"{job}.lock"))
            _lock(stream, job, folder)
        yield


def _open(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        raise PreflightError(
            f"cannot write {path}: {error.strerror}; let all users of this storage.root write there"
        ) from error


def _lock(stream: TextIO, job: str, folder: Path) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        owner = stream.read().strip() or "another process"
        raise PreflightError(
            f"`climb {job}` is already running on {folder.parent}: {owner}; wait until it ends, or "
            "use another storage.root"
        ) from None
    except OSError as error:
        # Some mounts of object stores have no locks. Delta then refuses the second commit.
        log(job, f"warning: {folder} has no file locks ({error.strerror}); start one driver only")
        return
    stream.truncate(0)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    stream.write(f"process {os.getpid()} on {socket.gethostname()}{_name_user()}, since {now}\n")
    stream.flush()


def _name_user() -> str:
    try:
        return f", started by {getpass.getuser()}"
    except (KeyError, OSError):  # a user id without an entry in the user database
        return ""

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

from climb.errors import PreflightError
from climb.files import is_refused, write_file
from climb.progress import log


@contextlib.contextmanager
def hold_locks(folder: Path, jobs: Sequence[str], running: str) -> Iterator[None]:
    """Lock these jobs while the block runs. The system releases the locks of a killed process.

    Different jobs may run at the same time, as the tasks of a Databricks job do.

    Args:
        folder: folder of the lock files, the same for every driver of a storage root.
        jobs: names of the jobs.
        running: text that says what this process runs, such as `ingest to report`. It need not
            name all of `jobs`. Another process that cannot get a lock quotes it in its message.

    Raises:
        PreflightError: a lock file cannot be written, or another process holds the lock of a job;
            the message names that process, what it runs, and when it took the lock.
    """
    with contextlib.ExitStack() as stack:
        for job in jobs:
            _lock(stack, folder, job, running)
        yield


def _lock(stack: contextlib.ExitStack, folder: Path, job: str, running: str) -> None:
    """Open the lock file of a job, lock it, and write the owner into a file beside it.

    The lock file stays empty: mounts of object stores refuse to change a file that exists.
    """
    path, owner = folder / f"{job}.lock", folder / f"{job}.owner"
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    process = f"process {os.getpid()} on {socket.gethostname()}{_name_user()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        stack.callback(os.close, handle)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_file(owner, lambda: [f"{running}, {process}, since {now}\n".encode()])
    except BlockingIOError:
        name = owner.read_text(encoding="utf-8").strip() if owner.exists() else "another process"
        raise PreflightError(
            f"job {job} cannot run on {folder.parent} beside {name}; wait until that process "
            "ends, or use another storage.root (and another storage.files, if it is set)"
        ) from None
    except OSError as error:
        if not is_refused(error):
            fix = "; let all users of this folder write there"
            raise PreflightError(
                f"cannot write {error.filename or path}: {error.strerror}"
                + (fix if isinstance(error, PermissionError) else "")
            ) from error
        # Some mounts of object stores have no locks.
        log(job, f"warning: {folder} has no file locks ({error.strerror}); start one driver only")


def _name_user() -> str:
    try:
        return f", started by {getpass.getuser()}"
    except (KeyError, OSError):  # a user id without an entry in the user database
        return ""

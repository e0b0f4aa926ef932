"""Check that every executor sees the folder of files that the driver sees."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from pyspark.sql import SparkSession

from climb.errors import PreflightError
from climb.files import write_file
from climb.spark.device import is_local
from climb.spark.executors import count_registered

PATIENCE = 2.0
"""Seconds for which an executor waits for the file: mounts cache the names in a folder."""


def check_shared(session: SparkSession, folder: Path, key: str = "storage.files") -> None:
    """Let one task per executor read a file that the driver writes.

    Executors that are busy or join later are not asked. In local mode there is nothing to check.

    Args:
        session: the session.
        folder: a folder that all nodes should mount.
        key: the key that configures the folder, for the message.

    Raises:
        PreflightError: an executor does not see the file; the message names its host.
    """
    context = session.sparkContext
    if is_local(str(context.master)):
        return
    n_executors = count_registered(context)
    token = secrets.token_hex(8)
    path = folder / f".shared-{token}"
    write_file(path, lambda: [token.encode()])
    try:
        name, wait = str(path), PATIENCE
        tasks = context.parallelize(range(n_executors), n_executors)
        found = tasks.mapPartitions(lambda _: read_token(name, token, wait)).collect()
    finally:
        path.unlink(missing_ok=True)
    hosts = sorted({host for host, is_found in found if not is_found})
    if hosts:
        raise PreflightError(describe_unshared(folder, hosts, key))


def read_token(path: str, token: str, wait: float) -> Iterator[tuple[str, bool]]:
    """Read the file in a task, and yield this host's name and whether the file has the token."""
    until = time.monotonic() + wait
    while not (is_found := _has_content(Path(path), token)) and time.monotonic() < until:
        time.sleep(0.1)
    yield socket.gethostname(), is_found


def describe_unshared(folder: Path, hosts: list[str], key: str) -> str:
    """Describe which hosts do not see the folder."""
    return (
        f"{key} is not shared: {', '.join(hosts)} cannot see a file that the driver on "
        f"{socket.gethostname()} wrote to {folder}; mount one folder at this path on every node "
        f"(NFS, FUSE, /Volumes), and set {key} to it"
    )


def _has_content(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except OSError:
        return False

"""Paths as Spark opens them, and folders in any file system that Hadoop supports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from climb.files import is_uri


def to_hadoop_path(path: str) -> str:
    """Return a path that Spark opens in the same file system as Python.

    A local path becomes `file:/...`: where HADOOP_CONF_DIR names another default file system,
    Spark would look for it there. URIs stay, and so do the mounts of Databricks.
    """
    if is_uri(path) or "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return path
    return f"file:{Path(path).absolute()}"


def quote_path(path: str) -> str:
    """Quote a path for Delta's SQL: delta.`path`."""
    return "delta.`" + to_hadoop_path(path).replace("`", "``") + "`"


class Folder:
    """A folder of a file system that Hadoop supports: a path, file://, s3a://, abfss://, ..."""

    def __init__(self, session: SparkSession, path: str) -> None:
        self.path = path.rstrip("/")
        self._session = session
        self._jvm: Any = session._jvm
        hadoop_path = self._hadoop_path()
        system = hadoop_path.getFileSystem(session._jsc.hadoopConfiguration())
        # The raw local file system writes no .crc file beside files that a user may edit.
        self._system = system.getRawFileSystem() if system.getScheme() == "file" else system

    def with_suffix(self, suffix: str) -> Folder:
        """Return the folder of the same name with a suffix."""
        return Folder(self._session, self.path + suffix)

    def exists(self) -> bool:
        """Whether the folder exists."""
        return bool(self._system.exists(self._hadoop_path()))

    def is_empty(self) -> bool:
        """Whether the folder has no files."""
        return not self.list_names()

    def list_names(self) -> list[str]:
        """List the names of the files and folders in it; none if it does not exist."""
        if not self.exists():
            return []
        found = self._system.listStatus(self._hadoop_path())
        return sorted(str(status.getPath().getName()) for status in found)

    def create(self) -> None:
        """Create the folder and all folders above it."""
        if not self._system.mkdirs(self._hadoop_path()):
            raise OSError(f"Mkdirs failed: {self.path}")

    def read(self, name: str) -> str | None:
        """Read a small text file of the folder; None if it does not exist."""
        path = self._hadoop_path(name)
        if not self._system.exists(path):
            return None
        stream = self._system.open(path)
        try:
            length = self._system.getFileStatus(path).getLen()
            return bytes(
                self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream, length)
            ).decode()
        finally:
            stream.close()

    def write(self, name: str, text: str) -> None:
        """Write a text file into the folder."""
        stream = self._system.create(self._hadoop_path(name), True)
        try:
            stream.write(bytearray(text.encode()))
        finally:
            stream.close()

    def move(self, to: Folder) -> None:
        """Rename the folder."""
        if not self._system.rename(self._hadoop_path(), to._hadoop_path()):
            raise OSError(f"cannot rename {self.path} to {to.path}: Access denied")

    def delete(self) -> None:
        """Delete the folder and everything in it, if it exists."""
        self._system.delete(self._hadoop_path(), True)

    def _hadoop_path(self, name: str | None = None) -> Any:
        path = self.path if name is None else f"{self.path}/{name}"
        return self._jvm.org.apache.hadoop.fs.Path(to_hadoop_path(path))

"""Paths as Spark opens them, and folders on mounts and in file systems that Hadoop supports."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from climb.files import is_uri, write_file


def to_hadoop_path(path: str) -> str:
    """Return a path that Spark opens in the same file system as Python.

    A local path becomes `file:/...`. Without this prefix, Spark would look for the path in the
    default file system that HADOOP_CONF_DIR names. URIs, and all paths on Databricks, stay as they
    are.
    """
    if is_uri(path) or "DATABRICKS_RUNTIME_VERSION" in os.environ:
        return path
    return f"file:{Path(path).absolute()}"


def quote_path(path: str) -> str:
    """Quote a path for Delta's SQL: delta.`path`."""
    return "delta.`" + to_hadoop_path(path).replace("`", "``") + "`"


def open_folder(session: SparkSession, path: str) -> Folder:
    """Open a folder: with Hadoop if the path is a URI, and without the JVM if it is a local path.

    Hadoop in the JVM cannot open the mounts of Databricks (/Volumes, /Workspace).
    """
    return HadoopFolder(session, path) if is_uri(path) else LocalFolder(path)


class Folder(ABC):
    """A folder and the small text files in it."""

    path: str

    @abstractmethod
    def with_suffix(self, suffix: str) -> Folder:
        """Return the folder of the same name with a suffix."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether the folder exists."""

    @abstractmethod
    def list_names(self) -> list[str]:
        """List names of files and folders in this folder; empty if the folder does not exist."""

    @abstractmethod
    def create(self) -> None:
        """Create the folder and all folders above it."""

    @abstractmethod
    def read(self, name: str) -> str | None:
        """Read a small text file of the folder; None if the file does not exist."""

    @abstractmethod
    def write(self, name: str, text: str) -> None:
        """Write a text file into the folder."""

    @abstractmethod
    def move(self, to: str) -> None:
        """Rename the folder."""

    @abstractmethod
    def delete(self) -> None:
        """Delete the folder and everything in it, if it exists."""

    def is_empty(self) -> bool:
        """Whether the folder contains nothing, or does not exist."""
        return not self.list_names()


class LocalFolder(Folder):
    """A folder that Python opens as a path: on a disk or on a mount."""

    def __init__(self, path: str) -> None:
        self.path = path.rstrip("/")
        self._folder = Path(path)

    def with_suffix(self, suffix: str) -> Folder:
        """Return the folder of the same name with a suffix."""
        return LocalFolder(self.path + suffix)

    def exists(self) -> bool:
        """Whether the folder exists."""
        return self._folder.exists()

    def list_names(self) -> list[str]:
        """List names of files and folders in this folder; empty if the folder does not exist."""
        return sorted(path.name for path in self._folder.iterdir()) if self.exists() else []

    def create(self) -> None:
        """Create the folder and all folders above it."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> str | None:
        """Read a small text file of the folder; None if the file does not exist."""
        path = self._folder / name
        return path.read_text(encoding="utf-8") if path.exists() else None

    def write(self, name: str, text: str) -> None:
        """Write a text file into the folder."""
        write_file(self._folder / name, lambda: [text.encode()])

    def move(self, to: str) -> None:
        """Rename the folder."""
        self._folder.rename(to)

    def delete(self) -> None:
        """Delete the folder and everything in it, if it exists."""
        if self.exists():
            shutil.rmtree(self._folder)


class HadoopFolder(Folder):
    """A folder that Hadoop opens, as its path is a URI: s3a://, abfss://, dbfs:/, file:/, ..."""

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
        return HadoopFolder(self._session, self.path + suffix)

    def exists(self) -> bool:
        """Whether the folder exists."""
        return bool(self._system.exists(self._hadoop_path()))

    def list_names(self) -> list[str]:
        """List names of files and folders in this folder; empty if the folder does not exist."""
        if not self.exists():
            return []
        found = self._system.listStatus(self._hadoop_path())
        return sorted(str(status.getPath().getName()) for status in found)

    def create(self) -> None:
        """Create the folder and all folders above it."""
        if not self._system.mkdirs(self._hadoop_path()):
            raise OSError(f"Mkdirs failed: {self.path}")

    def read(self, name: str) -> str | None:
        """Read a small text file of the folder; None if the file does not exist."""
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

    def move(self, to: str) -> None:
        """Rename the folder."""
        target = self._jvm.org.apache.hadoop.fs.Path(to)
        if not self._system.rename(self._hadoop_path(), target):
            raise OSError(f"cannot rename {self.path} to {to}: Access denied")

    def delete(self) -> None:
        """Delete the folder and everything in it, if it exists."""
        self._system.delete(self._hadoop_path(), True)

    def _hadoop_path(self, name: str | None = None) -> Any:
        path = self.path if name is None else f"{self.path}/{name}"
        return self._jvm.org.apache.hadoop.fs.Path(path)

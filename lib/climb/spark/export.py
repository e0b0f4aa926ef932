"""Export the mixed dataset as a folder that other tools read: Parquet, manifest, data card.

    mixed/README.md
    mixed/manifest.json
    mixed/data/domain=court-appeal-judge/part-00000-....zstd.parquet

The folder is written beside its place and renamed there, so it is whole or not there. All of it
goes through Hadoop's file system, so that an object store is a place like any other.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from climb import tables
from climb.datacard import FORMAT, data_card
from climb.errors import ConfigError, PreflightError
from climb.spark.store import Inputs, Store, unwritable

TOKENS_PER_FILE = 50_000_000
"""About 200 MB of text; a smaller domain is one file."""

WRITING, OLD = ".writing", ".old"
"""Suffixes of the folder while it is written, and of the one that it replaces."""


class Folder:
    """A place in a file system that Hadoop knows: a path, file://, s3a://, abfss://, ..."""

    def __init__(self, session: SparkSession, place: str) -> None:
        self.place = place.rstrip("/")
        self._jvm = session._jvm
        path = self._path()
        system = path.getFileSystem(session._jsc.hadoopConfiguration())
        # The raw local file system leaves no .crc file beside what a person may want to edit.
        self._system = system.getRawFileSystem() if system.getScheme() == "file" else system

    def beside(self, suffix: str) -> Folder:
        """The folder of the same name with a suffix."""
        other = object.__new__(Folder)
        other.place, other._jvm, other._system = self.place + suffix, self._jvm, self._system
        return other

    def exists(self) -> bool:
        """Whether something is there."""
        return bool(self._system.exists(self._path()))

    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        return not self._system.listStatus(self._path())

    def create(self) -> None:
        """Make it, with all folders above."""
        if not self._system.mkdirs(self._path()):
            raise OSError(f"Mkdirs failed: {self.place}")

    def read(self, name: str) -> str | None:
        """A small text file in it; None where there is none."""
        path = self._path(name)
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
        """Write a text file in it."""
        stream = self._system.create(self._path(name), True)
        try:
            stream.write(bytearray(text.encode()))
        finally:
            stream.close()

    def move(self, to: Folder) -> None:
        """Rename it."""
        if not self._system.rename(self._path(), to._path()):
            raise OSError(f"cannot rename {self.place} to {to.place}: Access denied")

    def delete(self) -> None:
        """Remove it with all it holds; nothing happens where it is not there."""
        self._system.delete(self._path(), True)

    def _path(self, name: str | None = None) -> Any:
        place = self.place if name is None else f"{self.place}/{name}"
        return self._jvm.org.apache.hadoop.fs.Path(place)


def exported_from(store: Store, place: str) -> Inputs | None:
    """What the export in a folder was made from; None where there is none yet.

    Raises:
        ConfigError: the folder holds something else, which an export would remove.
    """
    with _explained(place):
        folder = Folder(store.session, place)
        if any(folder.beside(suffix).exists() for suffix in (WRITING, OLD)):
            return None  # a run was killed here; object stores rename a folder file by file
        text = folder.read("manifest.json")
        if text is None and folder.exists() and not folder.is_empty():
            raise ConfigError(
                f"mix.export: {place} holds files but no dataset of ours, and would be replaced; "
                "name a folder that is new or empty"
            )
    if text is None:
        return None
    try:
        made = json.loads(text)
    except json.JSONDecodeError:
        made = {}
    if not isinstance(made, dict) or made.get("format") != FORMAT:
        raise ConfigError(
            f"mix.export: {place}/manifest.json is not of a dataset of ours; name another folder"
        )
    return made["made_from"]  # type: ignore[no-any-return]


def export(store: Store, place: str, made: dict[str, Any]) -> None:
    """Write table `corpus` as a dataset, in the place of an older one.

    Args:
        store: table `corpus` is read.
        place: path or URI of the folder.
        made: the manifest.

    Raises:
        PreflightError: the place cannot be written.
    """
    with _explained(place):
        folder = Folder(store.session, place)
        fresh, old = folder.beside(WRITING), folder.beside(OLD)
        for left in (fresh, old):  # of a run that was killed
            left.delete()
        fresh.create()
        _write_rows(store, f"{fresh.place}/data", made)
        fresh.write("README.md", data_card(made))
        fresh.write("manifest.json", json.dumps(made, indent=2, sort_keys=True) + "\n")
        if folder.exists():
            folder.move(old)
        fresh.move(folder)
        old.delete()


def _write_rows(store: Store, place: str, made: dict[str, Any]) -> None:
    """One folder per domain, in files of like size, rows in the order of a hash."""
    n_files = {
        name: max(1, -(-domain["tokens"] // TOKENS_PER_FILE))
        for name, domain in made["domains"].items()
    }
    sizes = store.session.createDataFrame(sorted(n_files.items()), "domain STRING, n_files INT")
    order = F.xxhash64(F.lit("export"), "doc_id", "copy")
    rows = (
        store.read(tables.CORPUS)
        .join(F.broadcast(sizes), on="domain")
        .withColumn("order", order)
        .withColumn("file", F.pmod("order", "n_files"))
        .repartition(sum(n_files.values()), "domain", "file")
        .sortWithinPartitions("domain", "file", "order", "doc_id", "copy")
        .select("domain", "doc_id", "copy", "n_tokens", "text")
    )
    writer = rows.write.partitionBy("domain").option("compression", "zstd")
    writer.option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false").parquet(place)


@contextlib.contextmanager
def _explained(place: str) -> Iterator[None]:
    """One line for a place that cannot be used; every other error as it is."""
    try:
        yield
    except Exception as error:
        reason = unwritable(error)
        if reason is None:
            raise
        raise PreflightError(f"mix.export: cannot write {place}: {reason}") from error

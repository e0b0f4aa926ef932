"""Export the mixed dataset as a folder that other tools read: Parquet, manifest, data card.

    mixed/README.md
    mixed/manifest.json
    mixed/complete.json                     (not if the folder is a URI)
    mixed/data/domain=court-appeal-judge/part-00000.zstd.parquet

The folder is written under another name and then renamed, so it is complete or does not exist. On a
mount that refuses renames, the folder is written in place, and an empty folder of the other name
exists until the dataset is complete. If the folder is a URI, its files are read and written through
Hadoop's file system; if it is a path, Python opens them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb.dataset.card import FORMAT, render_data_card
from climb.errors import ConfigError, PreflightError
from climb.files import can_rename, is_complete, is_uri, mark_complete
from climb.spark.corpus.export_files import write_parts
from climb.spark.corpus.mix import read_corpus
from climb.spark.delta.history import Inputs
from climb.spark.delta.store import Store, find_write_error
from climb.spark.folder import Folder, open_folder, to_hadoop_path
from climb.spark.shared import check_shared

TOKENS_PER_FILE = 50_000_000
"""Target size of a file, about 200 MB of text; a smaller domain is one file."""

WRITING, OLD = ".climb-writing", ".climb-old"
"""Suffixes of the folder while it is written, and of the older folder that it replaces. An export
deletes folders with these suffixes. So the suffixes are such that users are unlikely to use them in
names of their own folders."""


def read_export_inputs(store: Store, path: str) -> Inputs | None:
    """Read what the export in a folder was made from; None if there is no complete export.

    Raises:
        ConfigError: the folder has other files, which an export would delete.
        PreflightError: the folder cannot be read.
    """
    with _explain_write_errors(path):
        folder = _open_export(store, path)
        if any(folder.with_suffix(suffix).exists() for suffix in (WRITING, OLD)):
            return None  # a killed export; object stores rename file by file, so it may lack files
        text = folder.read("manifest.json")
        if text is None and folder.exists() and not folder.is_empty():
            raise ConfigError(
                f"mix.export: {path} contains files that are not a dataset of climb, and an export "
                "would replace them; name a folder that is new or empty"
            )
    if text is None:
        return None
    try:
        manifest = json.loads(text)
    except json.JSONDecodeError:
        manifest = {}
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ConfigError(
            f"mix.export: {path}/manifest.json is not the manifest of a climb dataset; "
            "name another folder"
        )
    if not is_uri(path) and not is_complete(Path(path)):
        return None  # a file is missing or cut off
    return cast(Inputs, manifest["made_from"])


def export(store: Store, path: str, manifest: Mapping[str, Any]) -> None:
    """Write table `corpus` as a dataset, and replace an older export.

    Args:
        store: table `corpus` is read.
        path: path or URI of the folder.
        manifest: the manifest.

    Raises:
        PreflightError: the folder cannot be written.
    """
    with _explain_write_errors(path):
        folder = _open_export(store, path)
        new, old = folder.with_suffix(WRITING), folder.with_suffix(OLD)
        for unfinished in (new, old):  # of an export that was killed
            unfinished.delete()
        new.create()
        if not is_uri(path) and not can_rename(Path(folder.path).parent):
            folder.delete()  # `new` marks the folder as unfinished until the end
            _write_dataset(store, folder, manifest)
            new.delete()
            return
        _write_dataset(store, new, manifest)
        if folder.exists():
            folder.move(old.path)
        new.move(folder.path)
        old.delete()


def _open_export(store: Store, path: str) -> Folder:
    """Open the folder, or its target if it is a link, because a rename would replace the link."""
    if not is_uri(path) and Path(path).is_symlink():
        path = str(Path(path).resolve())
    return open_folder(store.session, path)


def _write_dataset(store: Store, folder: Folder, manifest: Mapping[str, Any]) -> None:
    """Write the rows, the data card, and last the manifest."""
    rows = _select_rows(store, manifest)
    if is_uri(folder.path):
        _write_with_spark(rows, f"{folder.path}/data")
    else:
        check_shared(store.session, Path(folder.path), "mix.export")
        digests, n_rows = write_parts(rows, Path(folder.path))
        assert n_rows == manifest["rows"], (n_rows, manifest["rows"])
        mark_complete(Path(folder.path), digests)
    folder.write("README.md", render_data_card(manifest))
    folder.write("manifest.json", json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def _select_rows(store: Store, manifest: Mapping[str, Any]) -> DataFrame:
    """Select the rows of the dataset. A hash assigns each row to a file of the row's domain.

    So the files of a domain have similar sizes. The same hash sorts the rows of a file.
    """
    n_files = {
        name: max(1, -(-domain["tokens"] // TOKENS_PER_FILE))
        for name, domain in manifest["domains"].items()
    }
    sizes = store.session.createDataFrame(sorted(n_files.items()), "domain STRING, n_files INT")
    order = F.xxhash64(F.lit("export"), "doc_id", "copy")
    return (
        read_corpus(store)
        .join(F.broadcast(sizes), on="domain")
        .withColumn("order", order)
        .withColumn("file", F.pmod("order", "n_files"))
        .repartition(sum(n_files.values()), "domain", "file")
        .sortWithinPartitions("domain", "file", "order", "doc_id", "copy")
        .select("domain", "file", "doc_id", "copy", "n_tokens", "text")
    )


def _write_with_spark(rows: DataFrame, path: str) -> None:
    writer = rows.drop("file").write.partitionBy("domain").option("compression", "zstd")
    writer = writer.option("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
    writer.parquet(to_hadoop_path(path))


@contextlib.contextmanager
def _explain_write_errors(path: str) -> Iterator[None]:
    """Raise a PreflightError of one line for a refused write; other errors stay as they are."""
    try:
        yield
    except Exception as error:
        reason = find_write_error(error)
        if reason is None:
            raise
        raise PreflightError(f"mix.export: cannot write {path}: {reason}") from error

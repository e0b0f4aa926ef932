"""nanochat: a flat folder of Parquet files with a column `text`.

    shard_00000.parquet
    shard_00001.parquet
    shard_99999.parquet       validation: the last file by name

The documents are in the order of training, each as often as the mixture requires, because nanochat
has no weights. Set NANOCHAT_BASE_DIR so that this folder is nanochat's data folder, or make
nanochat's data folder a link to this folder.

Source: karpathy/nanochat, nanochat/dataset.py and dataloader.py, read 2026-11-27. The loader lists
the files of the folder, but not of its subfolders. It sorts them by name, and uses the last one for
validation. Rank r of R reads the row groups r, r + R, ... of each file. So a file with fewer row
groups than ranks leaves a rank without text: in validation that rank would wait forever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from climb.errors import ConfigError
from climb.export.contents import Contents, Kind, Sample, Split, Tokenization
from climb.export.documents import read_parquet, repeat_files
from climb.export.format import ShardWriter, Unit, check_positive
from climb.export.writers.parquet import ParquetWriter

VALIDATION = "shard_99999"

COLUMNS = ("text", "domain", "doc_id", "n_tokens")

MOST_GROUP_BYTES = 1 << 27
"""Bytes of text after which a row group ends, even if it has few documents. The loader holds a row
group in memory, and so does the task that writes it. During compression, the task holds several
copies of it."""


@dataclass(frozen=True, kw_only=True)
class Nanochat:
    """Flat Parquet files for nanochat, already mixed."""

    shard_bytes: int = 250_000_000
    """Bytes of text after which a file ends; nanochat's own files have 250 M characters."""

    group_rows: int = 1024
    """Documents of a row group in training files."""

    validation_group_rows: int = 64
    """Documents of a row group in the validation file; every GPU needs at least one row group."""

    unit: ClassVar[Unit] = "documents"
    kinds: ClassVar[tuple[Kind, ...]] = ("mixed",)
    stores_tokens: ClassVar[bool] = False
    endings: ClassVar[tuple[str, ...]] = ()
    loader: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Check the sizes of row groups.

        Raises:
            ConfigError: one is not positive.
        """
        check_positive(self, "group_rows", "validation_group_rows")

    def name_shard(self, split: Split, domain: str | None, index: int, count: int) -> str:
        """Return `shard_INDEX`; the validation file has the last possible number.

        Raises:
            ConfigError: validation has several shards; nanochat would train on all but the last.
        """
        if split == "train":
            return f"shard_{index:05d}"
        if count > 1:
            raise ConfigError(
                f"format nanochat: the validation split has {count} shards, but nanochat reads "
                "only one file; raise shard_bytes, or lower export.validation_share"
            )
        return VALIDATION

    def open_shard(self, path: Path, tokenization: Tokenization | None) -> ShardWriter:
        """Start a file."""
        validation = path.name == VALIDATION
        return ParquetWriter(
            path.with_name(f"{path.name}.parquet"),
            COLUMNS,
            group_rows=self.validation_group_rows if validation else self.group_rows,
            group_bytes=MOST_GROUP_BYTES,
        )

    def check_folder(self, folder: str, has_validation: bool) -> None:
        """Check that there is a validation file; see `climb.export.format.check_early`.

        Raises:
            ConfigError: there is no validation file; nanochat would use a training file for
                validation.
        """
        if not has_validation:
            raise ConfigError(
                "format nanochat: the export has no validation split, and nanochat would read the "
                "last training file as validation text; raise export.validation_share"
            )

    def describe(self, contents: Contents) -> dict[str, str]:
        """Return no files: nanochat has no configuration file for its data."""
        return {}

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Raise an error, because nanochat is not a Python package.

        Raises:
            ImportError: always.
        """
        raise ImportError("nanochat is not a Python package: use read_by_rule")

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Read the training files in the order of their names, over and over."""
        files = sorted(path for path in folder.iterdir() if path.name.endswith(".parquet"))
        return repeat_files(read_parquet, files[:-1])

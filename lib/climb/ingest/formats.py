"""Decide by name alone which files are documents, and in which format."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import unquote

ENDINGS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".arrow": "arrow",
    ".txt": "text",
    ".md": "text",
}
"""Ending in lower case, without the ending of a compression -> kind. A `.json` file has one object
per line, as Spark, C4 and Dolma write it."""

COMPRESSIONS = (".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz")
"""Endings of compressed files. They may follow the ending of a kind in COMPRESSED_KINDS. The ending
does not decide how the file is unpacked: `climb.ingest.compression` looks at its first bytes."""

COMPRESSED_KINDS = ("jsonl", "csv", "tsv", "text")

IGNORED_NAMES = re.compile(
    r"\..*|_SUCCESS|_delta_log|_temporary|_metadata|_common_metadata|_(?:started|committed)_.*"
    r"|(?:README|LICEN[CS]E|NOTICE|COPYING|CHANGELOG|CITATION)(?:\.\w+)?"
    r"|dataset_info\.json|dataset_infos\.json|dataset_dict\.json|state\.json|croissant\.json"
)
"""Names of files and folders that are not read as documents when they are found below a folder:
hidden files, marker files of Spark, Delta and Parquet writers, and what comes with a data set
(read-me, licence, state). Such a file is read if an input names it."""

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
"""Value in Hive's folder names for rows whose partition column is null."""

DESCRIPTION = f"{', '.join(ENDINGS)} (text formats also with {', '.join(COMPRESSIONS)})"


def detect_kind(path: str) -> str | None:
    """Return the kind for a file name, or None if its ending is not supported."""
    name = PurePosixPath(path).name.lower()
    plain = name
    for ending in COMPRESSIONS:
        plain = plain.removesuffix(ending)
        if plain != name:
            break
    stem, dot, ending = plain.rpartition(".")
    kind = ENDINGS.get(dot + ending) if stem else None
    return None if plain != name and kind not in COMPRESSED_KINDS else kind


def find_ending(path: str) -> str:
    """Return the ending of a file name: `.csv` for `a.csv`, and `.csv.gz` for `a.csv.gz`."""
    suffixes = PurePosixPath(path).suffixes
    is_compressed = bool(suffixes) and suffixes[-1].lower() in COMPRESSIONS
    return "".join(suffixes[-2:] if is_compressed else suffixes[-1:])


def parse_partitions(path: str) -> tuple[tuple[str, str | None], ...]:
    """Return the columns in the folder names of a path, as Hive and Spark write them.

    `x/lang=en/day=1/a.parquet` has (lang, en) and (day, 1). The value of a null partition is None.
    """
    pairs = (part.partition("=") for part in PurePosixPath(path).parts[:-1])
    return tuple(
        (unquote(key), None if value == NULL_PARTITION else unquote(value))
        for key, equals, value in pairs
        if key and equals
    )

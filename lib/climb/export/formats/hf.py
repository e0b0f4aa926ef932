"""Hugging Face datasets: a folder of Parquet files, with a card and a script that mixes them.

    README.md                               its header lists a configuration for each domain
    load.py                                 load_mixture(): an endless stream of mixed documents
    train/law/00000-of-00004.parquet        kind mixed: train/mixed/..., configuration `default`
    validation/law/00000-of-00001.parquet

`interleave_datasets(probabilities=)` draws documents, so `load.py` has shares of documents.

Source: datasets 5.2.0. Running it with documents whose lengths differ 20-fold showed that the
probabilities are shares of documents. Names of configurations must not contain <>:/\\|?*
(`datasets/builder.py`).
"""

from __future__ import annotations

import glob
import json
import re
import runpy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from climb.errors import ConfigError
from climb.export.contents import SPLITS, Contents, Sample, Shard
from climb.export.documents import (
    ParquetFolders,
    draw_documents,
    list_files,
    parse_sample,
    read_parquet,
    repeat_files,
    weigh_documents,
)
from climb.export.format import Unit
from climb.export.groups import check_pattern, escape_name, find_folder, list_weighted

CARD, SCRIPT = "README.md", "load.py"

LOAD = '''"""Mix the domains of this folder with the package `datasets` of Hugging Face.

    python load.py            prints the first documents
    from load import load_mixture
"""

from pathlib import Path

# Configuration -> share of documents, because interleave_datasets draws documents. The shares are
# proportional to (share of tokens / tokens per document) of each domain.
PROBABILITIES = %(probabilities)s
SEED = %(seed)d


def load_mixture(seed=SEED):
    """Return an endless stream of documents: doc_id, copy, domain, n_tokens, text."""
    from datasets import interleave_datasets, load_dataset

    folder = str(Path(__file__).resolve().parent)
    domains = [
        load_dataset(folder, name, split="train", streaming=True).repeat(None)
        for name in PROBABILITIES
    ]
    return interleave_datasets(
        domains,
        probabilities=list(PROBABILITIES.values()),
        seed=seed,
        stopping_strategy="all_exhausted",
    )


if __name__ == "__main__":
    for document in load_mixture().take(10):
        print({name: str(value)[:60] for name, value in document.items()})
'''


@dataclass(frozen=True, kw_only=True)
class HuggingFace(ParquetFolders):
    """Parquet files with a card for Hugging Face datasets, and a script that mixes them."""

    unit: ClassVar[Unit] = "documents"
    endings: ClassVar[tuple[str, ...]] = (".parquet",)
    loader: ClassVar[str] = "datasets"

    def check_folder(self, folder: str, has_validation: bool) -> None:
        """Check the path of the export; see `climb.export.format.check_early`.

        Raises:
            ConfigError: the path has characters of a pattern, or the folder is named `load`. In a
                folder NAME, `datasets` takes a file NAME.py for a script that builds the dataset,
                so it would take `load/load.py` for one.
        """
        check_pattern(folder, "datasets")
        if Path(folder).name == Path(SCRIPT).stem:
            raise ConfigError(
                f"datasets: the folder {folder} has the name of its script {SCRIPT}, so datasets "
                "would take the script for a dataset script, and refuse it; use another folder"
            )

    def describe(self, contents: Contents) -> dict[str, str]:
        """Return the card with its header, and the script.

        Raises:
            ConfigError: `datasets` would take the path of a file of the user for a pattern.
        """
        import yaml

        files: dict[str, dict[str, str | list[str]]] = {}
        for split in SPLITS:
            for name, _, shards in contents.list_groups(split):
                configuration = _name_configuration(contents, name)
                files.setdefault(configuration, {})[split] = _describe_files(shards)
        configurations = [
            {
                "config_name": name,
                "data_files": [{"split": s, "path": path} for s, path in paths.items()],
            }
            for name, paths in files.items()
        ]
        header = yaml.safe_dump({"configs": configurations}, sort_keys=False, allow_unicode=True)
        documents = weigh_documents(contents)
        shares = {
            _name_configuration(contents, name): documents[name]
            for name, _, _ in list_weighted(contents)
        }
        probabilities = json.dumps(shares, indent=4, ensure_ascii=False)
        return {
            CARD: f"---\n{header}---\n\n`load.py` reads the domains with their weights.\n\n",
            SCRIPT: LOAD % {"probabilities": probabilities, "seed": contents.seed},
        }

    def read_samples(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Yield the documents of `load_mixture` in `load.py`."""
        import datasets  # type: ignore[import-not-found]  # noqa: F401  # raises if missing

        mixture = _run_script(folder)["load_mixture"]()
        return (parse_sample(row) for row in mixture.select_columns(["domain", "n_tokens"]))

    def read_by_rule(self, folder: Path, contents: Contents) -> Iterator[Sample]:
        """Draw documents with the probabilities of `load.py` from the files that the card lists."""
        import yaml

        patterns = {
            configuration["config_name"]: data_files["path"]
            for configuration in yaml.safe_load(_read_header(folder))["configs"]
            for data_files in configuration["data_files"]
            if data_files["split"] == "train"
        }
        script = _run_script(folder)
        sources = [
            (share, repeat_files(read_parquet, _find_files(folder, patterns[name])))
            for name, share in script["PROBABILITIES"].items()
        ]
        return draw_documents(sources, script["SEED"])


def _name_configuration(contents: Contents, group: str) -> str:
    """Name the configuration of a group: its domain, with forbidden characters escaped.

    Names that differ stay different, because `%` is escaped.
    """
    if contents.kind == "mixed":
        return "default"
    return re.sub(r"[<>|]", lambda match: f"%{ord(match[0]):02X}", escape_name(group))


def _describe_files(shards: Sequence[Shard]) -> str | list[str]:
    """Return the pattern of a folder of the export, or one pattern for each file of the user.

    Raises:
        ConfigError: the name of a file contains `::`, which cannot be escaped.
    """
    files = list_files(shards, ".parquet")
    if all(Path(file).is_absolute() for file in files):
        for file in files:
            check_pattern(file, "datasets", "")
        return [glob.escape(file) for file in files]
    return f"{find_folder(shards)}/*.parquet"


def _find_files(folder: Path, patterns: str | list[str]) -> list[Path]:
    """Find the files that match patterns, which are absolute or relative to the folder."""
    listed = [patterns] if isinstance(patterns, str) else patterns
    root = Path("/")
    found = (
        root.glob(pattern[1:]) if pattern.startswith("/") else folder.glob(pattern)
        for pattern in listed
    )
    return [path for paths in found for path in sorted(paths)]


def _read_header(folder: Path) -> str:
    """Return the YAML header of the card, which is between two lines `---`.

    Raises:
        ValueError: the card has no header.
    """
    text = (folder / CARD).read_text(encoding="utf-8")
    if header := re.match(r"---\n(.*?\n)---\n", text, re.DOTALL):
        return header[1]
    raise ValueError(f"{folder / CARD} has no header of YAML; export again")


def _run_script(folder: Path) -> dict[str, Any]:
    return runpy.run_path(str(folder / SCRIPT), run_name="load")

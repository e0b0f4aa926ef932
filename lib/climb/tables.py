"""Every table in pipeline order: columns, key, and the one job that writes it.

ingest -> count -> embed -> score -> cluster -> prune -> pack -> search -> mix -> train -> report
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A Delta table. Columns are Spark DDL; rows are unique in `key`."""

    name: str
    key: tuple[str, ...]
    writer: str
    columns: str
    long: tuple[str, ...] = ()
    """Columns of long text, kept out of the file statistics that every reader loads."""

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names in order; types hold no comma outside <> brackets, which are skipped here."""
        names, depth, start = [], 0, 0
        for i, char in enumerate(self.columns + ","):
            depth += (char == "<") - (char == ">")
            if char == "," and depth == 0:
                names.append((self.columns + ",")[start:i].split()[0])
                start = i + 1
        return tuple(names)


DOCUMENTS = Table(
    "documents",
    ("doc_id",),
    "ingest",
    "doc_id STRING, source STRING, n_bytes BIGINT, repairs ARRAY<STRING>, "
    "metadata MAP<STRING,STRING>, text STRING",
    long=("text",),
)
REJECTED = Table(
    "rejected",
    ("reject_id",),
    "ingest",
    "reject_id STRING, reason STRING, file STRING, n_rows BIGINT, detail STRING",
)
TOKENIZERS = Table(
    "tokenizers", ("recipe",), "count", "recipe STRING, tokenizer STRING", long=("tokenizer",)
)
TOKENS = Table(
    "tokens", ("doc_id", "recipe"), "count", "doc_id STRING, recipe STRING, n_tokens INT"
)
EMBEDDINGS = Table(
    "embeddings",
    ("doc_id", "recipe"),
    "embed",
    "doc_id STRING, recipe STRING, embedding ARRAY<FLOAT>",
)
SCORES = Table(
    "scores",
    ("doc_id", "recipe"),
    "score",
    "doc_id STRING, recipe STRING, scores MAP<STRING,FLOAT>",
)
CENTROIDS = Table(
    "centroids",
    ("cluster",),
    "cluster",
    "cluster INT, clustering STRING, centroid ARRAY<FLOAT>",
)
ASSIGNMENTS = Table(
    "assignments",
    ("doc_id",),
    "cluster",
    "doc_id STRING, clustering STRING, cluster INT, distance FLOAT",
)
CLUSTERS = Table(
    "clusters",
    ("cluster",),
    "prune",
    "cluster INT, n_documents BIGINT, n_tokens BIGINT, scores MAP<STRING,DOUBLE>, kept BOOLEAN, "
    "reason STRING, domain STRING",
)
DOMAINS = Table(
    "domains",
    ("domain",),
    "prune",
    "domain STRING, clusters ARRAY<INT>, n_documents BIGINT, n_tokens BIGINT, token_share DOUBLE, "
    "terms ARRAY<STRING>, examples ARRAY<STRING>",
)
SHARDS = Table(
    "shards",
    ("kind", "domain"),
    "pack",
    "kind STRING, domain STRING, path STRING, n_documents BIGINT, n_tokens BIGINT, sha256 STRING",
)
LINEAGE = Table(
    "lineage",
    ("data", "clustering", "domain", "cluster"),
    "pack",
    "data STRING, tokenizer STRING, trial_share DOUBLE, clustering STRING, domain STRING, "
    "cluster INT, n_tokens DOUBLE",
)
TRIALS = Table(
    "trials",
    ("trial_id",),
    "search",
    "trial_id STRING, search STRING, round INT, method STRING, seed BIGINT, proxy STRING, "
    "data STRING, weights MAP<STRING,DOUBLE>, metrics MAP<STRING,DOUBLE>, status STRING, "
    "error STRING, n_tokens BIGINT, seconds DOUBLE, finished TIMESTAMP",
)
MIXTURES = Table(
    "mixtures",
    ("search", "method"),
    "search",
    "search STRING, method STRING, weights MAP<STRING,DOUBLE>, epochs MAP<STRING,DOUBLE>, "
    "score DOUBLE, score_std DOUBLE, gain_mean DOUBLE, gain_low DOUBLE, gain_high DOUBLE, "
    "p_better DOUBLE, verdict STRING, evidence STRING",
)
CORPUS = Table(
    "corpus",
    ("doc_id", "copy"),
    "mix",
    "doc_id STRING, copy INT, domain STRING, n_tokens INT, text STRING",
    long=("text",),
)
EVALUATIONS = Table(
    "evaluations",
    ("model", "metric"),
    "train",
    "model STRING, method STRING, seed BIGINT, metric STRING, value DOUBLE, n_tokens BIGINT, "
    "seconds DOUBLE",
)

TABLES = (
    DOCUMENTS,
    REJECTED,
    TOKENIZERS,
    TOKENS,
    EMBEDDINGS,
    SCORES,
    CENTROIDS,
    ASSIGNMENTS,
    CLUSTERS,
    DOMAINS,
    SHARDS,
    LINEAGE,
    TRIALS,
    MIXTURES,
    CORPUS,
    EVALUATIONS,
)

"""All tables in pipeline order: columns, key, and the job that writes each.

ingest -> count -> embed -> score -> cluster -> prune -> pack -> base -> search -> mix
-> target_base -> train -> report

`exclusions` is written by job `remove`, `contamination` and `dropped` by job `contamination`,
`comparisons` by `compare`, and `ablations` by `ablate`. These jobs are not steps of the pipeline,
and neither is job `doremi`. Table `doremi` is written by job `doremi`, or by job `search` before a
search that has DoReMi as a baseline.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

Row = dict[str, Any]
"""A row of a table: column -> value. Values have the Python types of `pyspark.sql.Row`."""


@dataclass(frozen=True)
class Table:
    """A Delta table. Its columns are Spark DDL; `key` is unique among its rows."""

    name: str
    key: tuple[str, ...]
    writer: str
    columns: str
    long: tuple[str, ...] = ()
    """Columns of long text, which are left out of the file statistics that readers load."""

    ordered_by: tuple[str, ...] = ()
    """Columns by which `climb maintain` orders the rows, so that a reader of one cluster or domain
    skips the files of other clusters or domains."""

    also_written_by: tuple[str, ...] = ()
    """Other jobs that also write missing rows of this table. These jobs call the same Python
    function as job `writer`."""

    @property
    def column_names(self) -> tuple[str, ...]:
        """Column names in order. Commas inside <> belong to a type and do not separate columns."""
        names, depth, start = [], 0, 0
        for i, char in enumerate(self.columns + ","):
            depth += (char == "<") - (char == ">")
            if char == "," and depth == 0:
                names.append((self.columns + ",")[start:i].split()[0])
                start = i + 1
        return tuple(names)

    def select_first(self, rows: Iterable[Row]) -> list[Row]:
        """Select the first row of each key.

        On a mount without file locks, two drivers may run the same job and write the same rows.
        Appending with `once` would prevent this. But Delta would then read the table's log for
        every commit, which takes three times as long. So repeated rows are dropped when they are
        read.
        """
        first: dict[tuple[Any, ...], Row] = {}
        for row in rows:
            first.setdefault(tuple(row[name] for name in self.key), row)
        return list(first.values())


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
READ_FILES = Table(
    "read_files", ("file",), "ingest", "file STRING, n_bytes BIGINT, modified BIGINT"
)
EXCLUSIONS = Table(
    "exclusions", ("source",), "remove", "source STRING, report STRING", long=("report",)
)
CONTAMINATION = Table(
    "contamination",
    ("doc_id", "recipe"),
    "contamination",
    "doc_id STRING, recipe STRING, source STRING, overlaps ARRAY<STRUCT<target:STRING,split:STRING,"
    "item:STRING,start:INT,n_words:INT,words:STRING>>",
)
DROPPED = Table(
    "dropped",
    ("digest",),
    "contamination",
    "digest STRING, doc_id STRING, source STRING, detail STRING",
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
REPEATED_NGRAMS = Table(
    "repeated_ngrams", ("recipe", "ngram"), "score", "recipe STRING, ngram BIGINT"
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
    ordered_by=("cluster",),
)
FITS = Table(
    "fits",
    ("cluster",),
    "cluster",
    "cluster INT, clustering STRING, n_documents BIGINT, n_far BIGINT, squares DOUBLE, "
    "far_distance DOUBLE",
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
    "terms ARRAY<STRING>, examples ARRAY<STRING>, sample ARRAY<STRING>, "
    "generated_name STRING",
)
SHARDS = Table(
    "shards",
    ("kind", "domain"),
    "pack",
    "kind STRING, domain STRING, path STRING, n_tokens BIGINT, sha256 STRING",
)
LINEAGE = Table(
    "lineage",
    ("corpus_digest", "clustering", "domain", "cluster"),
    "pack",
    "corpus_digest STRING, tokenizer STRING, trial_share DOUBLE, clustering STRING, "
    "domain STRING, cluster INT, n_tokens DOUBLE",
)
TRIALS = Table(
    "trials",
    ("trial_id",),
    "search",
    "trial_id STRING, search STRING, round INT, method STRING, seed BIGINT, proxy STRING, "
    "corpus_digest STRING, weights MAP<STRING,DOUBLE>, metrics MAP<STRING,DOUBLE>, "
    "status STRING, error STRING, n_tokens BIGINT, seconds DOUBLE, gpu_share DOUBLE, "
    "finished TIMESTAMP",
)
RUNGS = Table(
    "rungs",
    ("trial_id", "n_tokens"),
    "search",
    "trial_id STRING, n_tokens BIGINT, search STRING, round INT, method STRING, seed BIGINT, "
    "proxy STRING, corpus_digest STRING, weights MAP<STRING,DOUBLE>, "
    "metrics MAP<STRING,DOUBLE>, seconds DOUBLE, gpu_share DOUBLE, finished TIMESTAMP",
)
MIXTURES = Table(
    "mixtures",
    ("search", "method"),
    "search",
    "search STRING, method STRING, weights MAP<STRING,DOUBLE>, epochs MAP<STRING,DOUBLE>, "
    "score DOUBLE, score_std DOUBLE, "
    "gains MAP<STRING,STRUCT<mean:DOUBLE,low:DOUBLE,high:DOUBLE,p_better:DOUBLE,n_pairs:BIGINT>>, "
    "verdict STRING, result STRING",
    long=("result",),
)
DOREMI = Table(
    "doremi",
    ("run", "step"),
    "doremi",
    "run STRING, step BIGINT, weights MAP<STRING,DOUBLE>, averaged MAP<STRING,DOUBLE>, "
    "excess MAP<STRING,DOUBLE>, proxy STRING, corpus_digest STRING, step_size DOUBLE, "
    "smoothing DOUBLE, seed BIGINT, reference_tokens BIGINT, proxy_tokens BIGINT, "
    "n_trials DOUBLE, seconds DOUBLE, finished TIMESTAMP",
    also_written_by=("search",),
)
CORPUS = Table(
    "corpus",
    ("doc_id", "copy"),
    "mix",
    "doc_id STRING, copy INT, domain STRING, n_tokens INT, text STRING",
    long=("text",),
    ordered_by=("domain",),
)
LEARNING_CURVES = Table(
    "learning_curves",
    ("model", "step"),
    "train",
    "model STRING, method STRING, seed BIGINT, step BIGINT, n_tokens BIGINT, loss DOUBLE, "
    "learning_rate DOUBLE, metrics MAP<STRING,DOUBLE>",
)
EVALUATIONS = Table(
    "evaluations",
    ("model", "metric"),
    "train",
    "model STRING, method STRING, seed BIGINT, recipe STRING, corpus_digest STRING, "
    "weights MAP<STRING,DOUBLE>, metric STRING, value DOUBLE, n_tokens BIGINT, seconds DOUBLE, "
    "finished TIMESTAMP",
)
COMPARISONS = Table(
    "comparisons",
    ("name", "method", "metric"),
    "compare",
    "name STRING, method STRING, label STRING, place INT, metric STRING, higher_is_better BOOLEAN, "
    "mean DOUBLE, low DOUBLE, high DOUBLE, by_seed MAP<BIGINT,DOUBLE>, "
    "gains MAP<STRING,STRUCT<mean:DOUBLE,low:DOUBLE,high:DOUBLE,p_better:DOUBLE,n_pairs:BIGINT>>, "
    "n_trials DOUBLE, n_tokens DOUBLE",
)
ABLATIONS = replace(COMPARISONS, name="ablations", writer="ablate")

TABLES = (
    DOCUMENTS,
    REJECTED,
    READ_FILES,
    EXCLUSIONS,
    CONTAMINATION,
    DROPPED,
    TOKENIZERS,
    TOKENS,
    EMBEDDINGS,
    SCORES,
    REPEATED_NGRAMS,
    CENTROIDS,
    ASSIGNMENTS,
    FITS,
    CLUSTERS,
    DOMAINS,
    SHARDS,
    LINEAGE,
    TRIALS,
    RUNGS,
    MIXTURES,
    DOREMI,
    CORPUS,
    LEARNING_CURVES,
    EVALUATIONS,
    COMPARISONS,
    ABLATIONS,
)

CHANGING = (
    *("WRITE", "STREAMING UPDATE", "COPY INTO", "MERGE", "UPDATE", "DELETE", "TRUNCATE"),
    *("CREATE TABLE", "CREATE TABLE AS SELECT", "REPLACE TABLE", "REPLACE TABLE AS SELECT"),
    *("CREATE OR REPLACE TABLE", "CREATE OR REPLACE TABLE AS SELECT", "CLONE", "CONVERT"),
    *("RESTORE", "FSCK", "Manual Update", "DROP COLUMNS", "REPLACE COLUMNS", "RENAME COLUMN"),
)
"""Delta operations that change the rows of a table. All other operations are upkeep. They are not
listed, because platforms keep adding them (ROW TRACKING BACKFILL, ADD CONSTRAINT, ...)."""

"""Read labelled texts: from a file with texts and labels, or with doc_ids and labels."""

from __future__ import annotations

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb import tables
from climb.config.sections import ScorerTraining
from climb.errors import ConfigError, InputError
from climb.spark.delta.store import Store


def read_labels(store: Store, cfg: ScorerTraining) -> tuple[list[str], list[float]]:
    """Read the labelled texts; rows with an unknown doc_id or without a text are left out.

    Returns:
        The texts and their labels.

    Raises:
        ConfigError: no file is configured.
        InputError: the file or a column is missing, a line is not a JSON object, a label is not a
            number, or no row is left.
    """
    if cfg.labels is None:
        raise ConfigError(
            "score.training.labels is null; set it to a .parquet, .jsonl or .csv file "
            "with a text (or doc_id) and a label column"
        )
    rows = _read(store, cfg.labels)
    by_id = cfg.text_column not in rows.columns
    for column in ("doc_id" if by_id else cfg.text_column, cfg.label_column):
        if column not in rows.columns:
            names = f"{cfg.text_column!r} or 'doc_id'" if column == "doc_id" else repr(column)
            raise InputError(f"{cfg.labels} has no column {names}; it has {rows.columns}")
    text = F.col(f"`{cfg.text_column}`") if not by_id else F.col("text")
    if by_id:
        rows = rows.join(store.read(tables.DOCUMENTS).select("doc_id", "text"), on="doc_id")
    label = F.expr(f"try_cast(`{cfg.label_column}` AS DOUBLE)").alias("label")
    found = rows.select(text.alias("text"), label).where("text IS NOT NULL").collect()
    n_invalid = sum(row.label is None for row in found)
    if not found:
        reason = "no doc_id is in table documents" if by_id else "every text is null"
        raise InputError(f"{cfg.labels} has no labelled text: it has no rows, or {reason}")
    if n_invalid:
        raise InputError(
            f"{cfg.labels}: {n_invalid:,} of {len(found):,} labelled texts have no number in "
            f"column {cfg.label_column!r}; fix or remove these rows"
        )
    return [row.text for row in found], [row.label for row in found]


BROKEN = "climb_broken_line"
"""Column that has the text of a line that is not a JSON object; all other columns are null then."""


def _read(store: Store, path: str) -> DataFrame:
    reader = store.session.read
    try:
        if path.endswith((".jsonl", ".json", ".jsonl.gz", ".json.gz")):
            return _read_json(store, path)
        if path.endswith((".csv", ".csv.gz")):
            return reader.csv(path, header=True, multiLine=True, escape='"')
        return reader.parquet(path)
    except AnalysisException as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise InputError(f"labels {path!r} cannot be read: {reason}") from error


def _read_json(store: Store, path: str) -> DataFrame:
    """Read JSON Lines; Spark adds column BROKEN only if a line is not a JSON object.

    Raises:
        InputError: a line is not a JSON object.
    """
    rows = store.session.read.json(path, columnNameOfCorruptRecord=BROKEN)
    others = [name for name in rows.columns if name != BROKEN]
    if not others and rows.columns:
        raise InputError(f"{path}: no line is a JSON object; write one object per line")
    if BROKEN in rows.columns:
        # Spark refuses a query of this column alone, so another column is counted too.
        other = F.count(f"`{others[0]}`")
        counts = rows.agg(F.count(BROKEN), F.min(BROKEN), F.count("*"), other)
        [(n, line, n_lines, _)] = counts.collect()
        raise InputError(
            f"{path}: {n:,} of {n_lines:,} lines are not JSON objects, for example "
            f"{line[:80]!r}; fix or remove these lines"
        )
    return rows

"""Compute a table's rows for the documents that have no row yet, and commit the rows in steps."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb.errors import TableError
from climb.progress import show_progress
from climb.spark.delta.store import Store
from climb.spark.failures import reraise_task_errors
from climb.tables import Table


def append_missing(
    store: Store,
    documents: DataFrame,
    table: Table,
    recipe: str,
    n_per_step: int,
    compute: Callable[[DataFrame], DataFrame],
) -> tuple[int, int]:
    """Append `compute(documents)` for the documents that have no row of this recipe in `table`.

    A crash loses the work of at most one step. A hash of the doc_id assigns each document to a
    step, so the steps do not depend on the order of files or partitions.

    Args:
        store: has the table.
        documents: with a column doc_id.
        table: keyed by doc_id and recipe.
        recipe: name of what computes the rows.
        n_per_step: approximate number of documents in one commit.
        compute: documents -> rows of the table.

    Returns:
        How many documents were new, and how many had a row already.

    Raises:
        TableError: there are no documents.
        ClimbError: a task raised it.
    """
    n_documents = _count_documents(documents, store)
    missing = store.select_missing(documents, table, recipe=recipe)
    n_missing = append_in_steps(store, missing, table, n_per_step, compute)
    return n_missing, n_documents - n_missing


def append_in_steps(
    store: Store,
    missing: DataFrame,
    table: Table,
    n_per_step: int,
    compute: Callable[[DataFrame], DataFrame],
) -> int:
    """Append `compute(missing)` in commits of about n_per_step documents.

    A hash of the doc_id assigns each document to one step.

    Returns:
        The number of documents in `missing`.

    Raises:
        ClimbError: a task raised it.
    """
    n_missing = missing.count()
    n_steps = -(-n_missing // n_per_step)
    # One task per slot. Otherwise one core would process a whole small table, which is one file.
    slots = store.session.sparkContext.defaultParallelism
    for step in show_progress(range(n_steps), n_steps, table.writer, "step"):
        chosen = missing.where(F.pmod(F.xxhash64("doc_id"), F.lit(n_steps)) == step)
        with reraise_task_errors():
            store.append(compute(chosen.repartition(slots, "doc_id")), table)
    return n_missing


def _count_documents(documents: DataFrame, store: Store) -> int:
    """Return the number of documents.

    Raises:
        TableError: there are no documents.
    """
    n_documents = int(documents.count())
    if n_documents == 0:
        raise TableError(
            f"table documents in {store.cfg.root} has no rows; check ingest.inputs, "
            "and the reasons in table rejected"
        )
    return n_documents

"""Make rows for the documents that lack them, and commit them step by step."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb.errors import TableError
from climb.progress import bar
from climb.spark.failures import task_errors
from climb.spark.store import Store
from climb.tables import Table


def append_missing(
    store: Store,
    documents: DataFrame,
    table: Table,
    recipe: str,
    n_per_step: int,
    make: Callable[[DataFrame], DataFrame],
) -> tuple[int, int]:
    """Append `make(documents)` for those documents that `table` lacks with this recipe.

    A crash costs at most the step it fell into. Which step a document belongs to is a hash of
    its id: never the order of files or partitions.

    Args:
        store: where the table is.
        documents: with a column doc_id.
        table: keyed by doc_id and recipe.
        recipe: what makes the rows.
        n_per_step: documents of one commit, about.
        make: rows of the table from documents, as the table has them.

    Returns:
        How many documents were new, and how many the table held already.

    Raises:
        TableError: there are no documents.
    """
    n_documents = _some(documents, store)
    missing = store.missing(documents, table, recipe=recipe)
    n_missing = missing.count()
    n_steps = -(-n_missing // n_per_step)
    # One task a slot. Without this a small table is one file, one task, one busy core.
    slots = store.session.sparkContext.defaultParallelism
    for step in bar(range(n_steps), n_steps, table.writer, "step"):
        chosen = missing.where(F.pmod(F.xxhash64("doc_id"), F.lit(n_steps)) == step)
        with task_errors():
            store.append(make(chosen.repartition(slots, "doc_id")), table)
    return n_missing, n_documents - n_missing


def _some(documents: DataFrame, store: Store) -> int:
    """Their number.

    Raises:
        TableError: there are none.
    """
    n_documents = int(documents.count())
    if n_documents == 0:
        raise TableError(
            f"table documents in {store.cfg.root} has no rows; check ingest.inputs, "
            "and table rejected for the reasons"
        )
    return n_documents

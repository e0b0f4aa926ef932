"""Remove documents from every table that has rows of documents."""

from __future__ import annotations

from pyspark.sql import DataFrame

from climb import tables
from climb.spark.delta.store import Store

DEPENDENT = (
    *(tables.CONTAMINATION, tables.TOKENS, tables.EMBEDDINGS, tables.SCORES, tables.ASSIGNMENTS),
    tables.CORPUS,
)
"""Tables with rows of documents, beside `documents`. Rows of `documents` are deleted last: if the
removal is interrupted, the next removal finds the same documents again."""


def remove_missing_documents(store: Store, kept: DataFrame) -> int:
    """Delete every document that the inputs no longer have, and what was computed from it.

    Args:
        store: all tables.
        kept: (doc_id) of the documents that the inputs have.

    Returns:
        The number of removed documents.
    """
    ids = store.read(tables.DOCUMENTS).select("doc_id")
    missing = ids.join(kept, on="doc_id", how="left_anti").cache()
    try:
        n = missing.count()
        if n:
            delete_documents(store, missing)
        return n
    finally:
        missing.unpersist()


def delete_documents(store: Store, ids: DataFrame) -> None:
    """Delete the documents with these ids, and what was computed from them.

    Later jobs find that their input tables have changed, and run again. Earlier versions of the
    tables still have the texts, until `climb maintain` deletes the files of these versions. Shards
    that were packed before still have the token ids of the texts, until their folders are deleted.

    Args:
        store: all tables.
        ids: (doc_id), without repetition.
    """
    for table in (*DEPENDENT, tables.DOCUMENTS):
        store.delete(ids, table)

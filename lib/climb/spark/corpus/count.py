"""Train or load the tokenizer, and count every document's tokens."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from climb import tables, tokenizer
from climb.config import Config
from climb.config.corpus import CountConfig
from climb.errors import TableError
from climb.spark.corpus.samples import select_lowest
from climb.spark.delta.store import Store


def read_tokenizer_json(store: Store, cfg: Config) -> str:
    """Read the JSON of the configured tokenizer from its table.

    Raises:
        TableError: job `count` has not run with this tokenizer.
    """
    rows = store.read_rows(tables.TOKENIZERS, recipe=cfg.count.recipe)
    if not rows:
        raise TableError(
            f"table tokenizers has no tokenizer {cfg.count.recipe}; run `climb count` first"
        )
    return str(rows[0]["tokenizer"])


def ensure_tokenizer(store: Store, cfg: Config) -> str:
    """Read the tokenizer from its table, or load or train it once and write it there.

    A trained tokenizer stays the same if documents are added, so counts and shards stay comparable.

    Returns:
        The tokenizer as JSON.
    """
    recipe = cfg.count.recipe
    # Delta skips a second commit of the same name. The name contains the table's version. If a user
    # deletes the row, the version changes, so the row can be written again. The version is read
    # before the row. So two drivers that find no row use the same name, and only one can write.
    version = store.history.read_version(tables.TOKENIZERS)
    if store.exists(tables.TOKENIZERS):
        rows = store.read_rows(tables.TOKENIZERS, recipe=recipe)
        if rows:
            return str(rows[0]["tokenizer"])
    if cfg.count.path is not None:
        json = tokenizer.read_tokenizer(cfg.count.path)
    else:
        json = tokenizer.train_json(_read_sample(store, cfg.count), cfg.count.vocab_size)
    frame = store.create_frame([{"recipe": recipe, "tokenizer": json}], tables.TOKENIZERS)
    store.append(frame, tables.TOKENIZERS, once=f"{recipe}:{version}")
    return json


def _read_sample(store: Store, cfg: CountConfig) -> Iterator[str]:
    """Yield the beginnings of the documents with the lowest hashes, in the order of their ids.

    The driver holds one partition of them at a time.
    """
    hashed = F.xxhash64("doc_id")
    sample = select_lowest(store.read(tables.DOCUMENTS), hashed, cfg.sample_documents)
    beginning = F.substring("text", 1, tokenizer.SAMPLE_CHARS).alias("text")
    for row in sample.select("doc_id", beginning).orderBy("doc_id").toLocalIterator():
        yield row["text"]


def count_tokens(documents: DataFrame, json: str, recipe: str) -> DataFrame:
    """Count the tokens of documents(doc_id, text) -> (doc_id, recipe, n_tokens)."""

    # The stubs of PySpark do not have the form of pandas_udf that uses type hints.
    @pandas_udf("int")  # type: ignore[call-overload, untyped-decorator]
    def count(texts: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for batch in texts:
            encoded = tokenizer.encode_texts(tokenizer.open_tokenizer(json), batch.tolist())
            yield pd.Series([len(ids) for ids in encoded], dtype="int32")

    return documents.select(
        "doc_id", F.lit(recipe).alias("recipe"), count("text").alias("n_tokens")
    )

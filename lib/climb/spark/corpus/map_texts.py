"""Apply a function to the texts of a DataFrame, in tasks with their own resource profile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import pandas as pd
from pyspark.resource import ResourceProfile
from pyspark.sql import DataFrame

MapTexts = Callable[[Iterator[pd.Series]], Iterator[pd.Series]]
"""Batches of texts -> batches of values, in the same order; the function may read batches ahead."""


def map_texts(
    documents: DataFrame, function: MapTexts, column: str, profile: ResourceProfile | None
) -> DataFrame:
    """Compute a value of every text: documents(doc_id, text) -> (doc_id, the column).

    A pandas UDF cannot have a resource profile. So mapInPandas is used, and the ids pass through
    Python too.

    Args:
        documents: the documents.
        function: computes the values.
        column: name and type of the column, as in SQL.
        profile: the resources that each task requests; None: those of the configuration.
    """
    name = column.split()[0]

    def compute(batches: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        ids: deque[pd.Series] = deque()

        def read() -> Iterator[pd.Series]:
            for batch in batches:
                ids.append(batch["doc_id"])
                yield batch["text"]

        for values in function(read()):
            yield pd.DataFrame({"doc_id": ids.popleft().array, name: values.array})

    selected = documents.select("doc_id", "text")
    return selected.mapInPandas(compute, f"doc_id STRING, {column}", profile=profile)

"""Run an embedder over a DataFrame of documents, with one loaded model per Python worker."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.resource import ResourceProfile
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from climb.config import recipe_of
from climb.embed import Embed, Embedder, embed_stream
from climb.errors import ComponentError
from climb.spark.corpus.map_texts import map_texts
from climb.spark.device import get_task_device, shares_local_gpu
from climb.spark.threads import keep_freed_memory, limit_threads

COLUMNS = ("doc_id", "recipe", "embedding")

SHOWN_CHARS = 80
"""Characters of a text that an error message shows."""


def embed_documents(
    documents: DataFrame, embedder: Embedder, profile: ResourceProfile | None = None
) -> DataFrame:
    """Embed documents(doc_id, text) -> (doc_id, recipe, embedding ARRAY<FLOAT>).

    The embedding is NULL if the embedder returns a zero vector, which has no direction.

    Args:
        documents: the documents.
        embedder: the embedder.
        profile: the resources that each task requests; None: those of the configuration.
    """
    is_gpu_shared = shares_local_gpu(documents.sparkSession)

    def embed(texts: Iterator[pd.Series]) -> Iterator[pd.Series]:
        return embed_batches(texts, embedder, get_task_device(is_gpu_shared))

    embedded = map_texts(documents, embed, "embedding ARRAY<FLOAT>", profile)
    return embedded.withColumn("recipe", F.lit(recipe_of(embedder))).select(*COLUMNS)


def embed_batches(
    batches: Iterator[pd.Series], embedder: Embedder, device: str
) -> Iterator[pd.Series]:
    """Embed batches of text in their order. This is the body of the UDF, testable without Spark.

    An embedder that streams may read several batches before the first result. A zero vector becomes
    None: it has no direction, and k-means would form a cluster of such vectors.

    Raises:
        ComponentError: the embedder returned a wrong shape, or values that are not finite.
    """
    first = next(batches, None)
    if first is None:
        return  # an empty partition loads no model
    embed = _load(embedder, device)  # type: ignore[arg-type]  # frozen, so hashable
    starts: deque[list[str]] = deque()

    def read() -> Iterator[list[str]]:
        for texts in chain([first], batches):
            values = texts.tolist()
            starts.append([text[:SHOWN_CHARS] for text in values])
            yield values

    for vectors_ND in embed_stream(embed, read()):
        yield _convert_vectors(vectors_ND, starts.popleft(), embedder)


def _convert_vectors(
    vectors_ND: NDArray[np.float32], starts: list[str], embedder: Embedder
) -> pd.Series:
    """Check the vectors of a batch, and convert them to a column; error messages use `starts`."""
    vectors_ND = np.asarray(vectors_ND, dtype=np.float32)
    if vectors_ND.shape != (len(starts), embedder.dim):
        raise ComponentError(
            f"{embedder} returned shape {vectors_ND.shape} for {len(starts)} texts; "
            f"it must be {(len(starts), embedder.dim)}"
        )
    finite_N = np.isfinite(vectors_ND).all(axis=1)
    if not finite_N.all():
        text = starts[int(np.argmin(finite_N))]
        raise ComponentError(f"{embedder} returned NaN or inf for {text!r}")
    rows: list[NDArray[np.float32] | None] = list(vectors_ND)
    for row in np.flatnonzero(~vectors_ND.any(axis=1)):
        rows[row] = None
    return pd.Series(rows)


@functools.lru_cache(maxsize=1)
def _load(embedder: Embedder, device: str) -> Embed:
    """Load the model, and keep it between tasks of one Python worker that use the same embedder."""
    limit_threads()
    embed = embedder.load(device)
    limit_threads()
    if not device.startswith("cuda"):
        keep_freed_memory()
    return embed

"""Run a scorer over a DataFrame of documents, with one loaded model per Python worker."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark import Broadcast
from pyspark.resource import ResourceProfile
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from climb import tables
from climb.config import build, recipe_of
from climb.config.sections import PluginSpec
from climb.errors import ComponentError, ConfigError
from climb.quality import CorpusScorer, Score, Scorer
from climb.spark.corpus.map_texts import map_texts
from climb.spark.delta.store import Store
from climb.spark.device import get_task_device, shares_local_gpu
from climb.spark.threads import limit_threads

MAX_NGRAMS = 5_000_000
"""Maximum number of repeated n-grams that are kept. If there are more, the most frequent ones are
kept. This many n-grams need 40 MB in every Python worker."""


def build_scorers(specs: Sequence[PluginSpec]) -> list[Scorer]:
    """Build the configured scorers.

    Raises:
        ConfigError: a spec is wrong, or two scorers return scores of the same name.
    """
    scorers = [build(spec, Scorer) for spec in specs]
    owners: dict[str, Scorer] = {}
    for scorer in scorers:
        for name in scorer.names:
            if name in owners:
                raise ConfigError(
                    f"score.scorers: {owners[name]} and {scorer} both return a score {name!r}; "
                    "names of scores must differ"
                )
            owners[name] = scorer
    return scorers


def ensure_repeated_ngrams(
    store: Store, documents: DataFrame, scorer: CorpusScorer
) -> Broadcast[NDArray[np.uint64]]:
    """Read the repeated n-grams of the corpus, or count them once and write them to their table.

    Returns:
        Their hashes, sorted.
    """
    recipe = recipe_of(scorer)
    # Delta skips a commit whose name was used before. The name contains the table's version: if a
    # user deletes the rows, the version changes, and the rows can be written again. The version is
    # read before the rows. So two drivers that find no row use one name, and one commit is skipped.
    version = store.history.read_version(tables.REPEATED_NGRAMS)
    known = store.exists(tables.REPEATED_NGRAMS) and not (
        store.read(tables.REPEATED_NGRAMS).where(F.col("recipe") == recipe).isEmpty()
    )
    if not known:
        rows = _count_ngrams(documents, scorer).withColumn("recipe", F.lit(recipe))
        # This row is always written, even if no n-gram is repeated. It shows later calls that the
        # n-grams of this recipe were counted.
        marker = store.create_frame([{"recipe": recipe, "ngram": 0}], tables.REPEATED_NGRAMS)
        once = f"{recipe}:{version}"
        store.append(rows.unionByName(marker), tables.REPEATED_NGRAMS, once=once)
    rows = store.read(tables.REPEATED_NGRAMS).where(F.col("recipe") == recipe)
    signed = rows.select("ngram").toArrow()["ngram"].to_numpy()
    return store.session.sparkContext.broadcast(np.unique(signed.view(np.uint64)))


def _count_ngrams(documents: DataFrame, scorer: CorpusScorer) -> DataFrame:
    """Count the documents that contain each n-gram; return the hashes of repeated n-grams."""

    @pandas_udf("array<bigint>")  # type: ignore[call-overload, untyped-decorator]
    def extract(texts: pd.Series) -> pd.Series:
        return texts.map(lambda text: np.unique(scorer.hash_ngrams(text)).view(np.int64).tolist())

    ngrams = documents.select(F.explode(extract("text")).alias("ngram"))
    counted = ngrams.groupBy("ngram").agg(F.count("*").alias("n"))
    repeated = counted.where(F.col("n") >= scorer.min_documents)
    return repeated.orderBy(F.desc("n"), "ngram").limit(MAX_NGRAMS).select("ngram")


def score_documents(
    documents: DataFrame,
    scorer: Scorer,
    repeated: Broadcast[NDArray[np.uint64]] | None = None,
    profile: ResourceProfile | None = None,
) -> DataFrame:
    """Score documents(doc_id, text) -> (doc_id, recipe, scores MAP<STRING,FLOAT>).

    Args:
        documents: the documents.
        scorer: the scorer.
        repeated: for a `CorpusScorer`, see `ensure_repeated_ngrams`.
        profile: the resources that each task requests; None: those of the configuration.
    """
    is_gpu_shared = shares_local_gpu(documents.sparkSession)

    def score(texts: Iterator[pd.Series]) -> Iterator[pd.Series]:
        if repeated is not None and isinstance(scorer, CorpusScorer):
            loaded = scorer.load_repeated(repeated.value)
            return score_batches(texts, scorer, lambda: loaded)
        device = get_task_device(is_gpu_shared)
        return score_batches(texts, scorer, lambda: _load(scorer, device))  # type: ignore[arg-type]

    scored = map_texts(documents, score, "scores ARRAY<FLOAT>", profile)
    names = F.array(*[F.lit(name) for name in scorer.names])
    return scored.select(
        "doc_id",
        F.lit(recipe_of(scorer)).alias("recipe"),
        F.map_from_arrays(names, "scores").alias("scores"),
    )


def score_batches(
    batches: Iterator[pd.Series], scorer: Scorer, load: Callable[[], Score]
) -> Iterator[pd.Series]:
    """Score batches of text one by one, and yield the values of each text in the order of `names`.

    Spark tasks call this function; tests call it without Spark.

    Args:
        batches: the texts.
        scorer: names the scores.
        load: returns the function that scores texts.

    Raises:
        ComponentError: the scorer returned other names than its `names`, a wrong shape, or values
            that are not finite.
    """
    for texts in batches:
        # `load` is called inside the loop, so that an empty partition loads no model.
        scores = load()(texts.tolist())
        if set(scores) != set(scorer.names):
            raise ComponentError(
                f"{scorer} returned the scores {sorted(scores)}, but its attribute `names` lists "
                f"{sorted(scorer.names)}; both must be equal"
            )
        for name, values_N in scores.items():
            if np.shape(values_N) != (len(texts),):
                raise ComponentError(
                    f"{scorer} returned {name!r} of shape {np.shape(values_N)} "
                    f"for {len(texts)} texts; it must be {(len(texts),)}"
                )
            finite_N = np.isfinite(values_N)
            if not finite_N.all():
                text = texts.iloc[int(np.argmin(finite_N))]
                raise ComponentError(
                    f"{scorer} returned NaN or inf as score {name!r} of the text {text[:80]!r}"
                )
        stacked_NS = np.stack([scores[name] for name in scorer.names], axis=1)
        yield pd.Series(list(stacked_NS.astype(np.float32)))


# The cache holds more than the usual number of scorers, so each is loaded once per worker.
@functools.lru_cache(maxsize=8)
def _load(scorer: Scorer, device: str) -> Score:
    limit_threads()
    score = scorer.load(device)
    limit_threads()
    return score

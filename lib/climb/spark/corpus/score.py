"""Run a scorer over a DataFrame of documents, with one loaded model per Python worker."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from climb.config import build, recipe_of
from climb.config.sections import PluginSpec
from climb.errors import ComponentError, ConfigError
from climb.quality import Score, Scorer
from climb.spark.device import get_task_device
from climb.spark.threads import limit_threads


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


def score_documents(documents: DataFrame, scorer: Scorer) -> DataFrame:
    """Score documents(doc_id, text) -> (doc_id, recipe, scores MAP<STRING,FLOAT>)."""

    # The stubs of PySpark do not have the form of pandas_udf that uses type hints.
    @pandas_udf("array<float>")  # type: ignore[call-overload, untyped-decorator]
    def score(texts: Iterator[pd.Series]) -> Iterator[pd.Series]:
        return score_batches(texts, scorer, get_task_device())

    names = F.array(*[F.lit(name) for name in scorer.names])
    recipe = F.lit(recipe_of(scorer)).alias("recipe")
    return documents.select(
        "doc_id", recipe, F.map_from_arrays(names, score("text")).alias("scores")
    )


def score_batches(batches: Iterator[pd.Series], scorer: Scorer, device: str) -> Iterator[pd.Series]:
    """Score batches of text one by one: for each text, the values in the order of `names`.

    This is the body of the UDF, testable without Spark.

    Raises:
        ComponentError: the scorer returned other names than its `names`, a wrong shape, or values
            that are not finite.
    """
    for texts in batches:
        # Inside the loop: an empty partition loads no model.
        score = _load(scorer, device)  # type: ignore[arg-type]  # recipes are frozen: they hash
        scores = score(texts.tolist())
        if set(scores) != set(scorer.names):
            raise ComponentError(
                f"{scorer} returned scores {sorted(scores)}; its names are {sorted(scorer.names)}"
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


# Larger than the usual number of scorers: each is loaded once per worker, not once per batch.
@functools.lru_cache(maxsize=8)
def _load(scorer: Scorer, device: str) -> Score:
    score = scorer.load(device)
    limit_threads()
    return score

"""Contract checks of embedders and scorers, for built-in and external plug-ins.

def test_my_embedder_keeps_the_contract():
    check_embedder(MyEmbedder(model="models/mine", dim=256))
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from climb.config.plugins import recipe_of
from climb.embed import Embedder
from climb.quality import Scorer
from climb.testing.rules import call_plugin, check_recipe

TEXTS: tuple[str, ...] = (
    "The court heard the oral argument on Tuesday and reserved its judgment.",
    "Mix the flour with two eggs, add milk, and bake it for forty minutes.",
    "def mean(values):\n    return sum(values) / len(values)\n",
    "buy now!!! LIMITED offer >>> click here <<< $$$",
    "word " * 3000,
    "naïve café, 東京, \U0001f600 and a tab\there",
    "x",
)
"""A batch as in a real corpus: short and long, prose and code, several scripts."""


def check_embedder(
    embedder: Embedder,
    device: str = "cpu",
    texts: Sequence[str] = TEXTS,
    tolerance: float = 1e-5,
) -> None:
    """Embed texts in one batch, one by one and in reverse order, and compare the vectors.

    Args:
        embedder: the plug-in to check.
        device: where to load it.
        texts: the batch.
        tolerance: maximum difference of a coordinate between batches.

    Raises:
        AssertionError: the embedder breaks a rule, which the message states.
    """
    with call_plugin(type(embedder).__name__):
        _check_recipe(embedder, "embedder")
        embed = _guard_texts(embedder, embedder.load(device))
        _check_vectors(embedder, embed, texts, tolerance)


def _check_vectors(
    embedder: Embedder,
    embed: Callable[[Sequence[str]], Any],
    texts: Sequence[str],
    tolerance: float,
) -> None:
    """Check the vectors of one batch, and compare them with those of other batches."""
    vectors_ND = embed(texts)
    _require(isinstance(vectors_ND, np.ndarray), embedder, "must return a NumPy array")
    _require(vectors_ND.dtype == np.float32, embedder, f"returns {vectors_ND.dtype}, not float32")
    shape = (len(texts), embedder.dim)
    _require(vectors_ND.shape == shape, embedder, f"returns {vectors_ND.shape}, not {shape}")
    _require(bool(np.isfinite(vectors_ND).all()), embedder, "returns NaN or inf")
    norms_N = np.linalg.norm(vectors_ND.astype(np.float64), axis=1)
    unit = np.isclose(norms_N, 1.0, atol=1e-4) | (norms_N == 0.0)
    _require(bool(unit.all()), embedder, f"returns norms {norms_N}; they must be 1 or 0")
    _require(embed([]).shape == (0, embedder.dim), embedder, "must accept an empty batch")
    single_ND = np.concatenate([embed([text]) for text in texts])
    reversed_ND = embed(texts[::-1])[::-1]
    for other_ND, how in ((single_ND, "a batch of one"), (reversed_ND, "a reversed batch")):
        change = float(np.abs(other_ND - vectors_ND).max())
        _require(change <= tolerance, embedder, f"changes a vector by {change:.2g} in {how}")


def check_scorer(
    scorer: Scorer,
    device: str = "cpu",
    texts: Sequence[str] = TEXTS,
    tolerance: float = 1e-4,
) -> None:
    """Score texts in one batch, one by one and in reverse order, and compare the scores.

    Args:
        scorer: the plug-in to check.
        device: where to load it.
        texts: the batch.
        tolerance: maximum difference of a score between batches.

    Raises:
        AssertionError: the scorer breaks a rule, which the message states.
    """
    with call_plugin(type(scorer).__name__):
        unique = isinstance(scorer.names, tuple) and len(set(scorer.names)) == len(scorer.names) > 0
        _require(unique, scorer, f"must have a tuple of unique names; found {scorer.names!r}")
        _check_recipe(scorer, "scorer")
        score = _guard_texts(scorer, scorer.load(device))
        _check_scores(scorer, score, texts, tolerance)


def _check_scores(
    scorer: Scorer, score: Callable[[Sequence[str]], Any], texts: Sequence[str], tolerance: float
) -> None:
    """Check the scores of one batch, and compare them with those of other batches."""
    scores = score(texts)
    found = type(scores).__name__
    _require(isinstance(scores, Mapping), scorer, f"returns {found}, not a dict of arrays")
    singles = [score([text]) for text in texts]
    empty = score([])
    reversed_ = score(texts[::-1])
    complete = set(scores) == set(scorer.names)
    _require(complete, scorer, f"returns scores {set(scores)}, not {scorer.names}")
    for name, values_N in scores.items():
        shape, what = (len(texts),), f"score {name!r}"
        _require(isinstance(values_N, np.ndarray), scorer, f"{what} is no NumPy array")
        _require(values_N.dtype == np.float32, scorer, f"{what} is {values_N.dtype}, not float32")
        _require(values_N.shape == shape, scorer, f"{what} is {values_N.shape}, not {shape}")
        _require(bool(np.isfinite(values_N).all()), scorer, f"{what} has NaN or inf")
        _require(empty[name].shape == (0,), scorer, f"{what} must accept an empty batch")
        single_N = np.concatenate([scores_1[name] for scores_1 in singles])
        for other_N in (single_N, reversed_[name][::-1]):
            change = float(np.abs(other_N - values_N).max())
            _require(change <= tolerance, scorer, f"{what} changes by {change:.2g} between batches")


def _guard_texts(
    plugin: Any, function: Callable[[list[str]], Any]
) -> Callable[[Sequence[str]], Any]:
    """Wrap the function of a loaded plug-in.

    The wrapper raises an error if a call of the function changes the list of texts.
    """

    def call(texts: Sequence[str]) -> Any:
        passed = list(texts)
        with call_plugin(f"{type(plugin).__name__}: a batch of {len(passed)} texts"):
            result = function(passed)
        _require(passed == list(texts), plugin, "must not change the list of texts")
        return result

    return call


def _check_recipe(plugin: Any, kind: str) -> None:
    """Check that the plug-in is an immutable recipe that can be pickled and hashed."""
    check_recipe(plugin, kind)
    copy = pickle.loads(pickle.dumps(plugin))
    _require(hash(copy) == hash(plugin), plugin, "must have the hash of its pickled copy")
    _require(recipe_of(copy) == recipe_of(plugin), plugin, "must have the recipe of its copy")


def _require(condition: bool, plugin: Any, text: str) -> None:
    if not condition:
        raise AssertionError(f"{type(plugin).__name__}: {text}")

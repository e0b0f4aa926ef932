"""What every embedder and scorer must hold, theirs or ours: call these in a test of your plug-in.

def test_my_embedder_keeps_the_contract():
    check_embedder(MyEmbedder(model="models/mine", dim=256))
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np

from climb.config.plugins import recipe_of
from climb.embed import Embedder
from climb.quality import Scorer

TEXTS: tuple[str, ...] = (
    "The court heard the oral argument on Tuesday and reserved its judgment.",
    "Mix the flour with two eggs, add milk, and bake it for forty minutes.",
    "def mean(values):\n    return sum(values) / len(values)\n",
    "buy now!!! LIMITED offer >>> click here <<< $$$",
    "word " * 3000,
    "naïve café, 東京, \U0001f600 and a tab\there",
    "x",
)
"""Short and long, prose and code, several scripts: what a batch of a real corpus holds."""


def check_embedder(
    embedder: Embedder,
    device: str = "cpu",
    texts: Sequence[str] = TEXTS,
    tolerance: float = 1e-5,
) -> None:
    """Embed some texts in several ways and compare.

    Args:
        embedder: the recipe.
        device: where to load it.
        texts: a batch.
        tolerance: largest difference of a coordinate between two batches that hold a text.

    Raises:
        AssertionError: a promise is broken; the message says which.
    """
    _check_recipe(embedder)
    embed = embedder.load(device)
    vectors_ND = embed(list(texts))
    _require(isinstance(vectors_ND, np.ndarray), embedder, "must return a NumPy array")
    _require(vectors_ND.dtype == np.float32, embedder, f"returns {vectors_ND.dtype}, not float32")
    shape = (len(texts), embedder.dim)
    _require(vectors_ND.shape == shape, embedder, f"returns {vectors_ND.shape}, not {shape}")
    _require(bool(np.isfinite(vectors_ND).all()), embedder, "returns NaN or inf")
    norms_N = np.linalg.norm(vectors_ND.astype(np.float64), axis=1)
    unit = np.isclose(norms_N, 1.0, atol=1e-4) | (norms_N == 0.0)
    _require(bool(unit.all()), embedder, f"returns lengths {norms_N}; they must be 1, or 0")
    _require(embed([]).shape == (0, embedder.dim), embedder, "must take an empty batch")
    alone_ND = np.concatenate([embed([text]) for text in texts])
    turned_ND = embed(list(texts)[::-1])[::-1]
    for other_ND, how in ((alone_ND, "alone"), (turned_ND, "in another order")):
        off = float(np.abs(other_ND - vectors_ND).max())
        _require(off <= tolerance, embedder, f"moves a text's vector by {off:.2g} {how}")


def check_scorer(
    scorer: Scorer,
    device: str = "cpu",
    texts: Sequence[str] = TEXTS,
    tolerance: float = 1e-4,
) -> None:
    """Score some texts in several ways and compare.

    Raises:
        AssertionError: a promise is broken; the message says which.
    """
    _check_recipe(scorer)
    _require(len(set(scorer.names)) == len(scorer.names) > 0, scorer, f"names {scorer.names}")
    score = scorer.load(device)
    scores = score(list(texts))
    alone = [score([text]) for text in texts]
    empty = score([])
    turned = score(list(texts)[::-1])
    _require(set(scores) == set(scorer.names), scorer, f"gives {set(scores)}, not {scorer.names}")
    for name, values_N in scores.items():
        shape, what = (len(texts),), f"score {name!r}"
        _require(values_N.dtype == np.float32, scorer, f"{what} is {values_N.dtype}, not float32")
        _require(values_N.shape == shape, scorer, f"{what} is {values_N.shape}, not {shape}")
        _require(bool(np.isfinite(values_N).all()), scorer, f"{what} is NaN or inf")
        _require(empty[name].shape == (0,), scorer, f"{what} must take an empty batch")
        for other_N in (np.concatenate([one[name] for one in alone]), turned[name][::-1]):
            off = float(np.abs(other_N - values_N).max())
            _require(off <= tolerance, scorer, f"{what} moves by {off:.2g} with its neighbours")


def _check_recipe(plugin: Any) -> None:
    """A recipe travels to workers by pickle, and names rows by its fields."""
    frozen = getattr(getattr(plugin, "__dataclass_params__", None), "frozen", False)
    _require(frozen, plugin, "must be a frozen dataclass")
    travelled = pickle.loads(pickle.dumps(plugin))
    _require(travelled == plugin, plugin, "changes when it is pickled")
    _require(hash(travelled) == hash(plugin), plugin, "hashes differently when it is pickled")
    _require(recipe_of(travelled) == recipe_of(plugin), plugin, "must have one recipe")


def _require(holds: bool, plugin: Any, text: str) -> None:
    if not holds:
        raise AssertionError(f"{type(plugin).__name__}: {text}")

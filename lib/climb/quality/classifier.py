"""Logistic regression on hashed words and word pairs; training takes seconds.

Axes: N texts, F hashed features, L labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from climb.config.plugins import ModelPath
from climb.errors import PreflightError
from climb.files import resolve, write_atomically
from climb.quality import Score, Scorer
from climb.quality.training import check_classes

WEIGHTS, SETTINGS = "weights.npz", "model.json"


@dataclass(frozen=True, kw_only=True)
class ClassifierScorer:
    """Expected label, predicted by a logistic regression on hashed words and word pairs."""

    needs: ClassVar[tuple[str, ...]] = ("sklearn",)
    """Packages that `load` imports."""

    uses_gpu: ClassVar[bool] = False
    """Whether `load` uses a GPU. A scorer without this attribute is assumed to use one."""

    model: ModelPath
    """Folder that job train_scorer wrote."""

    name: str
    """Name of the score."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name of the only score."""
        return (self.name,)

    def load(self, device: str) -> Score:
        """Read the weights. The model runs on the CPU, whatever the device.

        Raises:
            PreflightError: the folder is missing or contains no classifier.
        """
        folder = resolve(self.model)
        try:
            settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            with np.load(folder / WEIGHTS, allow_pickle=False) as arrays:
                weights_FL, bias_L = arrays["weights_FL"], arrays["bias_L"]
            labels_L, features = np.array(settings["labels"]), int(settings["features"])
        except (OSError, ValueError, KeyError) as error:
            raise PreflightError(
                f"model path {self.model!r} contains no classifier of `climb train_scorer`: {error}"
            ) from error

        def score(texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
            logits_NL = hash_word_pairs(texts, features) @ weights_FL + bias_L
            expected_N = special.softmax(logits_NL, axis=1) @ labels_L
            return {self.name: expected_N.astype(np.float32)}

        return score


@dataclass(frozen=True, kw_only=True)
class ClassifierTrainer:
    """Trains a logistic regression on hashed words and word pairs."""

    needs: ClassVar[tuple[str, ...]] = ("sklearn",)
    """Packages that `train` imports."""

    features: int
    """Number of hashed features F."""

    inverse_penalty: float
    """scikit-learn's C: a larger value means less regularisation."""

    balanced: bool
    """Whether all labels get the same total weight (scikit-learn's class_weight="balanced"). Bad
    texts, which have low labels, are rare. Without balancing, a model that is trained on few texts
    almost never predicts low labels."""

    def train(self, texts: Sequence[str], labels_N: NDArray[np.float64], folder: Path) -> Scorer:
        """Train on N labelled texts, and write `weights.npz` and `model.json` into the folder.

        Raises:
            InputError: there are too many different labels.
        """
        from sklearn.linear_model import LogisticRegression

        check_classes(labels_N)
        labels_L, classes_N = np.unique(labels_N, return_inverse=True)
        regression = LogisticRegression(
            C=self.inverse_penalty,
            class_weight="balanced" if self.balanced else None,
            max_iter=500,
        )
        regression.fit(hash_word_pairs(texts, self.features), classes_N)
        weights_FL, bias_L = regression.coef_.T, regression.intercept_
        if len(labels_L) == 2:  # scikit-learn then stores only the weights of the second label
            weights_FL = np.hstack([np.zeros_like(weights_FL), weights_FL])
            bias_L = np.concatenate([[0.0], bias_L])
        with write_atomically(folder / WEIGHTS) as stream:
            np.savez_compressed(
                stream, weights_FL=weights_FL.astype(np.float32), bias_L=bias_L.astype(np.float64)
            )
        settings = {"labels": labels_L.tolist(), "features": self.features}
        with write_atomically(folder / SETTINGS) as stream:
            stream.write(json.dumps(settings).encode())
        return ClassifierScorer(model=str(folder), name="quality")


def hash_word_pairs(texts: Sequence[str], features: int) -> Any:
    """Count words and word pairs in F hashed features.

    Returns:
        Sparse matrix of shape (N, F); rows have norm 1.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    if not texts:
        return sparse.csr_array((0, features))
    vectorizer = HashingVectorizer(n_features=features, ngram_range=(1, 2), alternate_sign=False)
    return vectorizer.transform(list(texts))

"""Train a scorer on labelled texts, and measure it on held-out labels."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from climb.config.plugins import recipe_of
from climb.errors import InputError
from climb.files import is_complete, write_folder
from climb.quality import Scorer

RECORD_FILE = "training.json"
HELD_OUT_EVERY = 10
"""About one text in this many is held out to measure the model. The final model is trained on all
texts."""

MIN_LABELS = 100
"""Minimum number of labels for a measurement. With this number, about ten texts are held out."""

MAX_CLASSES = 20
"""Maximum number of different labels for a trainer that makes a class of each label. The memory and
the model of such a trainer grow with the number of classes."""


@runtime_checkable
class ScorerTrainer(Protocol):
    """A method that trains a scorer on labelled texts."""

    def train(self, texts: Sequence[str], labels_N: NDArray[np.float64], folder: Path) -> Scorer:
        """Write a model into the folder, and return a scorer that uses it.

        The folder is on the local disk. `train_scorer` copies it to the configured folder.
        """


def check_classes(labels_N: NDArray[np.float64]) -> None:
    """Check that there are few enough different labels to make a class of each.

    Raises:
        InputError: there are more than MAX_CLASSES different labels.
    """
    if (n := len(np.unique(labels_N))) > MAX_CLASSES:
        raise InputError(
            f"score.training: the labels have {n:,} different values. The scorer makes a class of "
            f"each value and can have at most {MAX_CLASSES} classes; round the labels, for example "
            "to whole numbers"
        )


@dataclass(frozen=True)
class TrainingSummary:
    """Outcome of a training."""

    n_labels: int
    n_held_out: int
    error: float | None
    """Mean absolute error on the held-out labels, in the unit of the labels; None if there are too
    few labels."""

    rank_correlation: float | None
    """Spearman's correlation on the held-out labels; None if there are too few labels."""

    repeated: bool = False
    """Whether the folder already contained a model from the same texts, labels and trainer. That
    model is kept."""


def train_scorer(
    trainer: ScorerTrainer, texts: Sequence[str], labels: Sequence[float], folder: Path
) -> TrainingSummary:
    """Train on N texts, unless the folder has a model from the same texts, labels and trainer.

    The order of the texts does not matter.

    Raises:
        InputError: a label is not a finite number, or all labels are equal.
    """
    labels_N = np.asarray(labels, dtype=np.float64)
    if not np.isfinite(labels_N).all():
        text = texts[int(np.argmin(np.isfinite(labels_N)))]
        raise InputError(f"a label is not a finite number; text: {text[:80]!r}")
    if len(np.unique(labels_N)) < 2:
        raise InputError(
            f"{len(labels_N)} labels have {len(np.unique(labels_N))} different values; "
            "training needs at least 2"
        )
    digests = [hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() for text in texts]
    order = sorted(range(len(texts)), key=lambda i: (digests[i], labels_N[i]))
    made_from = hashlib.sha256(
        json.dumps([[digests[i], labels_N[i]] for i in order]).encode()
    ).hexdigest()
    record = {"labels": made_from, "trainer": recipe_of(trainer)}
    previous = _read_record(folder / RECORD_FILE) if is_complete(folder) else None
    if previous is not None and previous["made_from"] == record:
        return TrainingSummary(**previous["trained"], repeated=True)
    texts, labels_N = [texts[i] for i in order], labels_N[order]
    held_out_N = np.array([int(digests[i][:8], 16) % HELD_OUT_EVERY == 0 for i in order])
    error, correlation = _measure_held_out(trainer, texts, labels_N, held_out_N)
    n_held_out = int(held_out_N.sum()) if error is not None else 0
    summary = TrainingSummary(len(texts), n_held_out, error, correlation)
    fields = {k: v for k, v in vars(summary).items() if k != "repeated"}
    with write_folder(folder) as local:
        trainer.train(texts, labels_N, local)
        text = json.dumps({"made_from": record, "trained": fields})
        (local / RECORD_FILE).write_text(text, encoding="utf-8")
    return summary


def _measure_held_out(
    trainer: ScorerTrainer,
    texts: Sequence[str],
    labels_N: NDArray[np.float64],
    held_out_N: NDArray[np.bool_],
) -> tuple[float | None, float | None]:
    """Train without the held-out texts, and measure the model on the held-out texts.

    Returns:
        Mean absolute error, and rank correlation. Both are None if there are fewer than
        `MIN_LABELS` labels, no held-out label, or only one distinct label to train on.
    """
    train_labels_N, test_labels_N = labels_N[~held_out_N], labels_N[held_out_N]
    if len(texts) < MIN_LABELS or not held_out_N.any() or len(np.unique(train_labels_N)) < 2:
        return None, None
    with tempfile.TemporaryDirectory() as scratch:
        train_texts = [text for text, out in zip(texts, held_out_N, strict=True) if not out]
        scorer = trainer.train(train_texts, train_labels_N, Path(scratch) / "model")
        test_texts = [text for text, out in zip(texts, held_out_N, strict=True) if out]
        (predicted_N,) = scorer.load("cpu")(test_texts).values()
    error = float(np.abs(predicted_N - test_labels_N).mean())
    is_constant = min(np.ptp(predicted_N), np.ptp(test_labels_N)) == 0
    correlation = 0.0 if is_constant else float(stats.spearmanr(predicted_N, test_labels_N)[0])
    return error, correlation


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record

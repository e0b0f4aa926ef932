"""Train a scorer from labels, and say how good it is on labels that it did not see."""

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
from climb.files import replacing
from climb.quality import Scorer

RECORD = "training.json"
HELD_OUT = 10
"""One label in so many is held out for the figures; the model that is kept is trained on all."""

FEWEST = 100
"""Fewer labels than this give no figures: ten held-out texts prove nothing."""


@runtime_checkable
class ScorerTrainer(Protocol):
    """A way to make a scorer from labelled texts."""

    def train(self, texts: Sequence[str], labels_N: NDArray[np.float64], folder: Path) -> Scorer:
        """Write a model into the folder, and return the scorer that reads it."""


@dataclass(frozen=True)
class Trained:
    """What a training did."""

    n_labels: int
    n_held_out: int
    error: float | None
    """Mean absolute difference to the held-out labels, in their unit; None for few labels."""

    rank_correlation: float | None
    """Spearman's, on the held-out labels."""

    repeated: bool = False
    """Whether an earlier, equal training was found, and nothing was done."""


def train_scorer(
    trainer: ScorerTrainer, texts: Sequence[str], labels: Sequence[float], folder: Path
) -> Trained:
    """Train on labelled texts, unless the folder's model was made from exactly these.

    The order of the texts changes nothing.

    Raises:
        InputError: a label is not a finite number, or all are the same.
    """
    labels_N = np.asarray(labels, dtype=np.float64)
    if not np.isfinite(labels_N).all():
        text = texts[int(np.argmin(np.isfinite(labels_N)))]
        raise InputError(f"a label is not a number, for the text {text[:80]!r}")
    if len(np.unique(labels_N)) < 2:
        raise InputError(
            f"{len(labels_N)} labels hold {len(np.unique(labels_N))} different values; "
            "a scorer needs at least 2"
        )
    digests = [hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() for text in texts]
    order = sorted(range(len(texts)), key=lambda i: (digests[i], labels_N[i]))
    made_from = hashlib.sha256(
        json.dumps([[digests[i], labels_N[i]] for i in order]).encode()
    ).hexdigest()
    record = {"labels": made_from, "trainer": recipe_of(trainer)}
    known = _read(folder / RECORD)
    if known is not None and known["made_from"] == record:
        return Trained(**known["trained"], repeated=True)
    texts, labels_N = [texts[i] for i in order], labels_N[order]
    held_N = np.array([int(digests[i][:8], 16) % HELD_OUT == 0 for i in order])
    error, correlation = _held_out(trainer, texts, labels_N, held_N)
    trainer.train(texts, labels_N, folder)
    measured = error is not None
    trained = Trained(len(texts), int(held_N.sum()) if measured else 0, error, correlation)
    fields = {k: v for k, v in vars(trained).items() if k != "repeated"}
    with replacing(folder / RECORD) as stream:
        stream.write(json.dumps({"made_from": record, "trained": fields}).encode())
    return trained


def _held_out(
    trainer: ScorerTrainer,
    texts: Sequence[str],
    labels_N: NDArray[np.float64],
    held_N: NDArray[np.bool_],
) -> tuple[float | None, float | None]:
    """Mean absolute error and rank correlation on the texts that `held_N` marks."""
    if len(texts) < FEWEST or not held_N.any() or len(np.unique(labels_N[~held_N])) < 2:
        return None, None
    with tempfile.TemporaryDirectory() as scratch:
        seen = [text for text, held in zip(texts, held_N, strict=True) if not held]
        scorer = trainer.train(seen, labels_N[~held_N], Path(scratch) / "model")
        unseen = [text for text, held in zip(texts, held_N, strict=True) if held]
        (predicted_N,) = scorer.load("cpu")(unseen).values()
    error = float(np.abs(predicted_N - labels_N[held_N]).mean())
    constant = min(np.ptp(predicted_N), np.ptp(labels_N[held_N])) == 0
    correlation = 0.0 if constant else float(stats.spearmanr(predicted_N, labels_N[held_N])[0])
    return error, correlation


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found

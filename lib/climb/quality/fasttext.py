"""fastText models whose labels are numbers: CLIMB's published ones, and ones trained here."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from climb.config.plugins import ModelPath
from climb.errors import ComponentError, ConfigError, PreflightError
from climb.files import resolve
from climb.quality import Score, Scorer

LABEL = "__label__"
MODEL = "model.bin"

RATES = (1.0, 0.5, 0.2, 1.5)
"""Where training ends in "Encountered NaN.", the next of these multiples of the rate is tried."""

FEWEST_WEIGHTS = 1 << 24
"""In one thread fastText initialises a tenth of its weights and leaves the rest as the memory was:
zero in fresh pages, which malloc takes from 32 MB on, and garbage or NaN in smaller matrices."""


@dataclass(frozen=True, kw_only=True)
class FastTextScorer:
    """The most likely label of a fastText classifier, as a number.

    Source:
        CLIMB's classifiers have labels -1 (no answer) and 0 to 5; the public recipe takes the most
        likely one (NVIDIA NeMo Curator, nemotron-climb-data-curation).
    """

    needs: ClassVar[tuple[str, ...]] = ("fasttext",)
    """Packages that it imports when it is used."""

    model: ModelPath
    """The .bin file."""

    name: str
    """Name of the score."""

    @property
    def names(self) -> tuple[str, ...]:
        """The one score."""
        return (self.name,)

    def load(self, device: str) -> Score:
        """Read the model; fastText computes on the CPU whatever the device.

        Raises:
            PreflightError: the file is missing or no fastText model.
            ComponentError: a label is not a number.
        """
        import fasttext

        try:
            model = fasttext.load_model(str(resolve(self.model)))
        except ValueError as error:
            raise PreflightError(f"{self.model!r} is not a fastText model: {error}") from error
        values = label_values(model.labels, self.model)
        worst = min(values.values())

        def score(texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
            labels_N = model.predict([one_line(text) for text in texts], k=1)[0] if texts else []
            # No label at all: the model knows not one word of the text.
            likeliest = [values[labels[0]] if len(labels) else worst for labels in labels_N]
            return {self.name: np.array(likeliest, dtype=np.float32)}

        return score


@dataclass(frozen=True, kw_only=True)
class FastTextTrainer:
    """Trains a fastText classifier on words and word pairs; one thread, so that it repeats."""

    needs: ClassVar[tuple[str, ...]] = ("fasttext",)
    """Packages that it imports when it is used."""

    dim: int
    epochs: int
    learning_rate: float
    buckets: int
    """Rows that the word pairs are hashed into."""

    min_count: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse a model so small that its training would begin with garbage."""
        if self.dim * self.buckets < FEWEST_WEIGHTS:
            raise ConfigError(
                f"FastTextTrainer: dim x buckets is {self.dim * self.buckets:,}; at least "
                f"{FEWEST_WEIGHTS:,}, or fastText begins with uninitialised weights"
            )

    def train(self, texts: Sequence[str], labels_N: NDArray[np.float64], folder: Path) -> Scorer:
        """Train on N labelled texts and write `model.bin`.

        Raises:
            ComponentError: no learning rate led to finite weights.
        """
        with tempfile.TemporaryDirectory() as scratch:
            lines = Path(scratch) / "train.txt"
            with lines.open("w", encoding="utf-8") as stream:
                for text, label in zip(texts, labels_N, strict=True):
                    clean = one_line(text).replace(LABEL, " ")
                    stream.write(f"{LABEL}{label:g} {clean}\n")
            model = self._fit(str(lines))
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{MODEL}.{os.getpid()}"
        model.save_model(str(beside))
        beside.replace(folder / MODEL)
        return FastTextScorer(model=str(folder / MODEL), name="quality")

    def _fit(self, lines: str) -> Any:
        import fasttext

        for rate in RATES:
            try:
                return fasttext.train_supervised(
                    lines,
                    dim=self.dim,
                    epoch=self.epochs,
                    lr=self.learning_rate * rate,
                    wordNgrams=2,
                    bucket=self.buckets,
                    minCount=self.min_count,
                    seed=self.seed,
                    thread=1,
                    verbose=0,
                )
            except RuntimeError as error:
                if "NaN" not in str(error):
                    raise
        raise ComponentError(
            "fastText's weights became NaN at learning rates "
            f"{[self.learning_rate * rate for rate in RATES]}; "
            "set another score.training.trainer.learning_rate"
        )


def label_values(labels: Sequence[str], path: str) -> dict[str, float]:
    """Number of each label: `__label__3` -> 3.0.

    Raises:
        ComponentError: a label is not a number.
    """
    values: dict[str, float] = {}
    for label in labels:
        try:
            values[label] = float(label.removeprefix(LABEL))
        except ValueError as error:
            raise ComponentError(
                f"fastText model {path!r} has label {label!r}; a score needs labels that are "
                f"numbers, like {LABEL}3 (its labels: {sorted(labels)[:10]})"
            ) from error
    return values


def one_line(text: str) -> str:
    """The text in one line, as fastText reads it; NUL would end it early."""
    return re.sub(r"[\s\x00]+", " ", text)

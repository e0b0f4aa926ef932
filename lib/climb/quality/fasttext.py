"""fastText classifiers with numeric labels: CLIMB's published models, and models of the user."""

from __future__ import annotations

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
from climb.quality.training import check_classes

LABEL = "__label__"
MODEL = "model.bin"

RATE_MULTIPLES = (1.0, 0.5, 0.2, 1.5)
"""Factors of the learning rate, tried in this order. If fastText reports "Encountered NaN.", the
training is repeated with the next factor."""

MIN_WEIGHTS = 1 << 24
"""Minimum number of weights of a model. With one thread, fastText initializes only a tenth of the
weights. The other weights have the values that malloc's memory contains. For a block of 32 MB or
more, malloc returns new pages, so these weights are 0. In a smaller block, they are undefined."""


@dataclass(frozen=True, kw_only=True)
class FastTextScorer:
    """The most likely label of a fastText classifier, as a number.

    Source:
        CLIMB's classifiers have the labels -1 (no answer) and 0 to 5. The public recipe uses the
        most likely label (NVIDIA NeMo Curator, nemotron-climb-data-curation).
    """

    needs: ClassVar[tuple[str, ...]] = ("fasttext",)
    """Packages that `load` imports."""

    extra: ClassVar[str] = "fasttext"
    """Extra of climb-mixture that installs these packages."""

    uses_gpu: ClassVar[bool] = False
    """Whether `load` uses a GPU. A scorer without this attribute is assumed to use one."""

    model: ModelPath
    """The .bin file."""

    name: str
    """Name of the score."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name of the only score."""
        return (self.name,)

    def load(self, device: str) -> Score:
        """Read the model. It runs on the CPU, whatever the device: fastText has no GPU code.

        Raises:
            PreflightError: the file is missing or is not a fastText model.
            ComponentError: a label is not a number.
        """
        import fasttext

        try:
            model = fasttext.load_model(str(resolve(self.model)))
        except ValueError as error:
            raise PreflightError(f"{self.model!r} is not a fastText model: {error}") from error
        values = parse_labels(model.labels, self.model)
        lowest = min(values.values())

        def score(texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
            lines = [flatten_to_one_line(text) for text in texts]
            labels_N = model.predict(lines, k=1)[0] if lines else []
            # fastText returns no label if no word of the text is in its vocabulary.
            scores = [values[labels[0]] if len(labels) else lowest for labels in labels_N]
            return {self.name: np.array(scores, dtype=np.float32)}

        return score


@dataclass(frozen=True, kw_only=True)
class FastTextTrainer:
    """Trains a fastText classifier on words and word pairs, in one thread to be reproducible."""

    needs: ClassVar[tuple[str, ...]] = ("fasttext",)
    """Packages that `train` imports."""

    extra: ClassVar[str] = "fasttext"
    """Extra of climb-mixture that installs these packages."""

    dim: int
    epochs: int
    learning_rate: float
    buckets: int
    """Number of hash buckets for word pairs."""

    min_count: int
    seed: int

    def __post_init__(self) -> None:
        """Check the size of the model.

        Raises:
            ConfigError: the model is so small that fastText would use uninitialized weights.
        """
        if self.dim * self.buckets < MIN_WEIGHTS:
            raise ConfigError(
                f"FastTextTrainer: dim x buckets is {self.dim * self.buckets:,}; it must be at "
                f"least {MIN_WEIGHTS:,}, or fastText uses uninitialized weights"
            )

    def train(self, texts: Sequence[str], labels_N: NDArray[np.float64], folder: Path) -> Scorer:
        """Train on N labelled texts, and write `model.bin` into the folder.

        Raises:
            InputError: there are too many different labels.
            ComponentError: the weights become NaN with every factor of `RATE_MULTIPLES`.
        """
        check_classes(labels_N)
        with tempfile.TemporaryDirectory() as scratch:
            lines = Path(scratch) / "train.txt"
            with lines.open("w", encoding="utf-8") as stream:
                for text, label in zip(texts, labels_N, strict=True):
                    clean = flatten_to_one_line(text).replace(LABEL, " ")
                    stream.write(f"{LABEL}{label:g} {clean}\n")
            model = self._fit(str(lines))
        folder.mkdir(parents=True, exist_ok=True)
        model.save_model(str(folder / MODEL))
        return FastTextScorer(model=str(folder / MODEL), name="quality")

    def _fit(self, lines: str) -> Any:
        import fasttext

        for rate in RATE_MULTIPLES:
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
            f"{[self.learning_rate * rate for rate in RATE_MULTIPLES]}; "
            "set another score.training.trainer.learning_rate"
        )


def parse_labels(labels: Sequence[str], path: str) -> dict[str, float]:
    """Convert each label to its number: `__label__3` -> 3.0.

    Raises:
        ComponentError: a label is not a number.
    """
    values: dict[str, float] = {}
    for label in labels:
        try:
            values[label] = float(label.removeprefix(LABEL))
        except ValueError as error:
            raise ComponentError(
                f"fastText model {path!r} has label {label!r}; labels must be numbers, for "
                f"example {LABEL}3 (labels of the model: {sorted(labels)[:10]})"
            ) from error
    return values


def flatten_to_one_line(text: str) -> str:
    """Replace each run of white space or NUL by a space: fastText stops at a line end or NUL."""
    return re.sub(r"[\s\x00]+", " ", text)

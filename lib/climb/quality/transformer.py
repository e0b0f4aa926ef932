"""Local sequence-classification transformers, for example FineWeb-Edu's classifier.

Axes: N texts, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from climb.config.plugins import ModelPath
from climb.embed.batches import Wait, run_model
from climb.embed.device import choose_batching, fetch, launch_or_halve
from climb.embed.limits import check_max_tokens
from climb.errors import ComponentError, ConfigError, PreflightError, one_line
from climb.files import resolve
from climb.quality import Score


@dataclass(frozen=True, kw_only=True)
class TransformerScorer:
    """Scores texts with a classifier.

    The score is the output of a classifier that has one output, or the expected label of a
    classifier that has several outputs.
    """

    needs: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    """Packages that `load` imports."""

    extra: ClassVar[str] = "proxy"
    """Extra of climb-mixture that installs these packages."""

    model: ModelPath
    """Folder of a Hugging Face sequence-classification model. Nothing is downloaded."""

    name: str
    """Name of the score."""

    max_tokens: int
    """Maximum tokens of a document; the rest of a longer document is ignored."""

    batch_tokens: int = field(metadata={"speed_only": True})
    """Maximum tokens of a batch, padding included."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name of the only score."""
        return (self.name,)

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            ConfigError: a limit is below 1.
        """
        for name in ("max_tokens", "batch_tokens"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"TransformerScorer: {name} is {value}; it must be at least 1")

    def load(self, device: str) -> Score:
        """Load the weights.

        Raises:
            PreflightError: the folder is missing or contains no sequence classifier.
            ComponentError: the model has several outputs, and a label is not a number; or
                `max_tokens` exceeds the model's maximum input.
        """
        tokenizer, model = _open_model(self.model)
        check_max_tokens("TransformerScorer: max_tokens", self.max_tokens, self.model, model)
        model.eval().float().to(device)
        labels_L = parse_label_numbers(model.config.id2label, self.model)
        classifier = _Classifier(tokenizer, model, labels_L, self.max_tokens, device)
        batching = choose_batching(self.batch_tokens, device, self.max_tokens)

        def score(texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
            return {self.name: run_model(classifier, texts, batching)[:, 0]}

        return score


@dataclass(frozen=True)
class _Encoding:
    """The inputs of the model for one text, by name; `len` returns the number of token ids."""

    inputs: dict[str, list[int]]

    def __len__(self) -> int:
        return len(self.inputs["input_ids"])


@dataclass(frozen=True)
class _Classifier:
    """A loaded classifier as a `TextModel` that returns one value per text."""

    tokenizer: Any
    model: Any
    labels_L: NDArray[np.float32]
    max_tokens: int
    device: str
    width: int = 1

    def encode(self, texts: Sequence[str]) -> list[_Encoding]:
        """Tokenize texts."""
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens)
        rows = zip(*encoded.values(), strict=True)
        return [_Encoding(dict(zip(encoded, row, strict=True))) for row in rows]

    def launch(self, encoded: Sequence[_Encoding], length: int) -> Wait:
        """Start a batch; the tokenizer pads it."""
        return launch_or_halve(lambda part: fetch(self._forward(part)), encoded)

    def _forward(self, encoded: Sequence[_Encoding]) -> Any:
        import torch

        batch = self.tokenizer.pad([each.inputs for each in encoded], return_tensors="pt")
        with torch.inference_mode():
            logits_NL = self.model(**batch.to(self.device)).logits.float()
            if len(self.labels_L) > 1:
                logits_NL = logits_NL.softmax(dim=1)
            labels_L = torch.from_numpy(self.labels_L).to(self.device)
            return (logits_NL @ labels_L)[:, None]


def _open_model(path: str) -> tuple[Any, Any]:
    """Open the tokenizer and the model of a local folder.

    Raises:
        PreflightError: the folder is missing or contains no sequence classifier.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = str(resolve(path))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        text = one_line(error)
        raise PreflightError(
            f"model path {path!r} contains no sequence classifier: {text}"
        ) from error
    return tokenizer, model


def parse_label_numbers(id2label: dict[int, str], path: str) -> NDArray[np.float32]:
    """Convert the label of each output to a number, shape (L,).

    The labels `3` and `LABEL_3` become the number 3. If the model has only one output, its label is
    ignored and the number 1 is returned, so that the score is the output itself.

    Raises:
        ComponentError: a label is not a number.
    """
    if len(id2label) == 1:
        return np.ones(1, dtype=np.float32)
    try:
        numbers = [float(id2label[i].removeprefix("LABEL_")) for i in range(len(id2label))]
    except ValueError as error:
        raise ComponentError(
            f"classifier {path!r} has labels {list(id2label.values())[:10]}; labels must be "
            "numbers, for example 3 or LABEL_3"
        ) from error
    return np.array(numbers, dtype=np.float32)

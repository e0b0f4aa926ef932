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
from climb.embed.sentence import run_with_halving, split_batches
from climb.errors import ComponentError, PreflightError, one_line
from climb.files import resolve
from climb.quality import Score


@dataclass(frozen=True, kw_only=True)
class TransformerScorer:
    """The output of a model with one output; otherwise the expected label."""

    needs: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    """Packages that `load` imports."""

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

    def load(self, device: str) -> Score:
        """Load the weights.

        Raises:
            PreflightError: the folder is missing or contains no sequence classifier.
            ComponentError: the model has several outputs whose labels are not numbers.
        """
        import torch

        tokenizer, model = _open_model(self.model)
        model.eval().float().to(device)
        labels_L = parse_label_numbers(model.config.id2label, self.model)

        def forward(texts: Sequence[str]) -> NDArray[np.float32]:
            with torch.inference_mode():
                batch = self._encode(tokenizer, texts, padding=True, return_tensors="pt")
                logits_NL = model(**batch.to(device)).logits.float()
                if len(labels_L) > 1:
                    logits_NL = logits_NL.softmax(dim=1)
                values_NL: NDArray[np.float32] = logits_NL.cpu().numpy()
            return values_NL @ labels_L

        def score(texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
            scores_N = np.empty(len(texts), dtype=np.float32)
            if texts:
                ids = self._encode(tokenizer, texts)["input_ids"]
                lengths_N = np.array([len(row) for row in ids], dtype=np.int64)
                for rows in split_batches(lengths_N, self.batch_tokens):
                    scores_N[rows] = run_with_halving(forward, [texts[row] for row in rows])
            return {self.name: scores_N}

        return score

    def _encode(self, tokenizer: Any, texts: Sequence[str], **options: Any) -> Any:
        return tokenizer(list(texts), truncation=True, max_length=self.max_tokens, **options)


def _open_model(path: str) -> tuple[Any, Any]:
    """Open tokenizer and model of a local folder.

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
    """Convert the label of each output to a number, shape (L,); 1 for a model with one output.

    The labels `3` and `LABEL_3` are the number 3.

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

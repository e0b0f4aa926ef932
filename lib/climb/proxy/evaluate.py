"""Metrics of a model on targets: bits per byte, probability of the right choice, accuracy.

Axes: N items, P passages or predicted tokens, C continuations, B rows, T tokens of a row,
D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from climb.errors import TrialError
from climb.proxy import Target
from climb.proxy.language_model import compute_hidden_states, compute_token_losses
from climb.proxy.metrics import METRICS
from climb.proxy.targets import Item, Passage, load_items
from climb.tokenizer import TokenizerFile

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]

MAX_BATCH_TOKENS = {"cpu": 4_096, "cuda": 131_072}
"""Maximum tokens of a batch, padding included; a longer row is a batch of its own. The value
changes the last bits of a metric, so it is a constant and not a setting."""

CONTEXT_SHARING_ARCHITECTURES = ("llama",)
"""Architectures that read all choices of an item after one copy of its context. They have plain
attention with explicit positions. Other architectures read the context once per choice."""


@dataclass(frozen=True)
class ItemScores:
    """Scores of a model on each item of a target."""

    bits_N: Array
    """-log2 likelihood of the right choice, or of the text."""

    bytes_N: Array
    """UTF-8 bytes of the right choice, or of the text."""

    prob_N: Array
    """Normalized probability of the right choice; 1 for a text."""

    correct_N: Array
    """1 if the right choice has the highest likelihood, else 0."""

    correct_norm_N: Array
    """1 if the right choice has the highest log-likelihood per character, else 0."""

    def compute_metrics(self, target: Target) -> dict[str, float]:
        """Average the scores; return the metrics by `<task>.<metric>`.

        bpb is the bits of all items divided by the bytes of all items, so that longer answers have
        more weight. In a mean of the items' ratios, one-word answers would dominate.
        """
        values = {
            "bpb": self.bits_N.sum() / self.bytes_N.sum(),
            "prob": self.prob_N.mean(),
            "accuracy": self.correct_N.mean(),
            "accuracy_norm": self.correct_norm_N.mean(),
        }
        names = METRICS[target.kind]
        return {f"{target.name}.{name}": float(values[name]) for name in names}


def measure(
    model: Any, targets: Sequence[Target], tokenizer: TokenizerFile, sequence: int
) -> dict[str, float]:
    """Measure a model on all targets; return the metrics by `<task>.<metric>`.

    Args:
        model: a transformers causal language model, on its device.
        targets: may be empty; then there are no metrics.
        tokenizer: the tokenizer of the model.
        sequence: sequence length in tokens that the model was trained with.

    Raises:
        InputError: the file of a target cannot be read, or one of its lines is not an item.
        TrialError: a likelihood is NaN or infinite.
    """
    metrics: dict[str, float] = {}
    for target in targets:
        metrics |= score_items(model, target, tokenizer, sequence).compute_metrics(target)
    return metrics


def score_items(model: Any, target: Target, tokenizer: TokenizerFile, sequence: int) -> ItemScores:
    """Score each item of a target, in order of the items' hashes; arguments as for `measure`.

    `prob` is a softmax of the choices' log-likelihoods per byte. With the likelihoods of
    whole choices, the shortest choice would get almost all of the probability. `accuracy` and
    `accuracy_norm` are `acc` and `acc_norm` of lm-evaluation-harness; a test compares them item by
    item.

    Source:
        Probability of the right choice among the choices, length-normalized: DataDecide
        (arXiv 2504.11393), whose "norm correct prob" is per character.

    Raises:
        InputError, TrialError: as for `measure`.
    """
    items = load_items(target, tokenizer, sequence)
    bits_C = score_continuations(model, [passage for item in items for passage in item.passages])
    if not np.isfinite(bits_C).all():
        raise TrialError(f"target {target.name!r}: the model returns NaN or infinite likelihoods")
    rows = []
    first = 0
    for item in items:
        stop = first + sum(len(passage.continuations) for passage in item.passages)
        rows.append(_score_item(item, bits_C[first:stop]))
        first = stop
    return ItemScores(*np.array(rows, dtype=np.float64).T)


def _score_item(item: Item, bits_C: Array) -> tuple[float, float, float, float, float]:
    """Return the scores of one item, in the order of the fields of ItemScores."""
    if len(item.n_bytes) == 1:
        return float(bits_C.sum()), item.n_bytes[0], 1.0, 1.0, 1.0
    per_byte_C = bits_C / np.array(item.n_bytes)
    odds_C = np.exp2(per_byte_C.min() - per_byte_C)
    return (
        float(bits_C[item.label]),
        item.n_bytes[item.label],
        float(odds_C[item.label] / odds_C.sum()),
        float(bits_C.argmin() == item.label),
        float((bits_C / np.array(item.n_characters)).argmin() == item.label),
    )


def score_continuations(model: Any, passages: Sequence[Passage]) -> Array:
    """Compute -log2 of the likelihood of each continuation after its context, shape (C,).

    With CONTEXT_SHARING_ARCHITECTURES, the continuations of a passage share one row and one copy of
    the context. The attention mask separates the continuations, and the positions of each
    continuation start after the context. With other architectures, each continuation has its own
    row.
    """
    import torch

    first_P = np.cumsum([0, *(len(passage.continuations) for passage in passages)])
    bits_C = np.zeros(first_P[-1])
    shares_context = getattr(model.config, "model_type", None) in CONTEXT_SHARING_ARCHITECTURES
    rows = [
        (passage.context, tuple(enumerate(passage.continuations, start=int(first))))
        for passage, first in zip(passages, first_P, strict=False)
    ]
    if not shares_context:
        rows = [(context, (numbered,)) for context, several in rows for numbered in several]
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in _split_batches([_Row.build(*row) for row in rows], model.device.type):
            np.add.at(bits_C, *_compute_batch_bits(model, batch))
    model.train(was_training)
    return bits_C


@dataclass(frozen=True)
class _Row:
    """One row of a batch: its input, and the predicted tokens of its continuations."""

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    segments: tuple[int, ...]
    """0 for the context, 1, 2, ... for the continuations."""

    predictors: tuple[int, ...]
    """For each predicted token, the column whose output predicts it."""

    predicted: tuple[int, ...]
    """Token id of each predicted token."""

    continuations: tuple[int, ...]
    """Number of the continuation of each predicted token."""

    @classmethod
    def build(
        cls, context: tuple[int, ...], continuations: tuple[tuple[int, tuple[int, ...]], ...]
    ) -> _Row:
        """Join a context and its numbered continuations into one row.

        The last token of a continuation is predicted and is not part of the input.
        """
        ids, segments = list(context), [0] * len(context)
        positions = list(range(len(context)))
        predictors: list[int] = []
        for segment, (_, tokens) in enumerate(continuations, start=1):
            predictors += [len(context) - 1, *range(len(ids), len(ids) + len(tokens) - 1)]
            ids += tokens[:-1]
            segments += [segment] * (len(tokens) - 1)
            positions += range(len(context), len(context) + len(tokens) - 1)
        return cls(
            tuple(ids),
            tuple(positions),
            tuple(segments),
            tuple(predictors),
            tuple(token for _, tokens in continuations for token in tokens),
            tuple(number for number, tokens in continuations for _ in tokens),
        )


def _split_batches(rows: list[_Row], device: str) -> Iterator[list[_Row]]:
    """Group rows of similar length, so that batches have little padding."""
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: (len(row.ids), row.continuations[0])):
        if batch and len(row.ids) * (len(batch) + 1) > MAX_BATCH_TOKENS[device]:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _compute_batch_bits(model: Any, rows: list[_Row]) -> tuple[list[int], Array]:
    """Return, for each predicted token of a batch, the number of its continuation and its bits."""
    import torch

    width = max(len(row.ids) for row in rows)

    def pad(name: str, fill: int) -> Tensor:
        values = [(*getattr(row, name), *[fill] * (width - len(row.ids))) for row in rows]
        return torch.tensor(values, device=model.device)

    ids_BT = pad("ids", 0)
    if any(row.segments[-1] > 1 for row in rows):
        mask_BTT = _build_mask(pad("segments", -1))
        hidden_BTD = compute_hidden_states(model, ids_BT, mask_BTT, pad("positions", 0))
    else:  # causal attention needs no mask: the padding follows all tokens of a row
        hidden_BTD = compute_hidden_states(model, ids_BT)
    columns = [i * width + column for i, row in enumerate(rows) for column in row.predictors]
    hidden_PD = hidden_BTD.flatten(0, 1)[torch.tensor(columns, device=model.device)]
    predicted = [token for row in rows for token in row.predicted]
    nats_P = compute_token_losses(model, hidden_PD, torch.tensor(predicted, device=model.device))
    bits_P: Array = nats_P.double().cpu().numpy() / np.log(2.0)
    return [number for row in rows for number in row.continuations], bits_P


def _build_mask(segments_BT: Tensor) -> Tensor:
    """Build the attention mask, shape (B, 1, T, T): True where query q of row b sees key k.

    A token sees earlier tokens of the context and of its own continuation. Padding sees the
    context and earlier padding, so that every query has a key. A query without a key would have
    the output NaN.
    """
    import torch

    width = segments_BT.shape[1]
    causal_TT = torch.ones(width, width, dtype=torch.bool, device=segments_BT.device).tril()
    own_BTT = segments_BT[:, :, None] == segments_BT[:, None, :]
    context_B1T = segments_BT[:, None, :] == 0
    return ((own_BTT | context_B1T) & causal_TT)[:, None]

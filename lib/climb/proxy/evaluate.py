"""Metrics of a model on targets: bits per byte, probability of the right choice, accuracy.

N items, P tails (texts to be predicted), T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from climb.errors import TrialError
from climb.proxy import Target
from climb.proxy.language_model import hidden_states, token_nats
from climb.proxy.targets import Item, Passage, load_items

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]

TOKENS_AT_ONCE = {"cpu": 4_096, "cuda": 131_072}
"""Tokens of a batch, padding counted; part of a metric's last bits, so not a matter of taste."""

SHARES_CONTEXT = ("llama",)
"""Architectures that may read an item's choices behind one copy of its context: plain attention
with positions that are given. Others read the context once a choice."""


@dataclass(frozen=True)
class ItemScores:
    """What a model made of each item; the right choice of item n is `label_N[n]`."""

    bits_N: Array
    """-log2 likelihood of the right choice, or of the text."""

    bytes_N: Array
    """UTF-8 bytes of the same."""

    prob_N: Array
    """Normalised probability of the right choice; 1 for a text."""

    correct_N: Array
    """1 where the right choice is the likeliest, else 0."""

    correct_norm_N: Array
    """1 where it is the likeliest per byte, else 0."""

    def metrics(self, target: Target) -> dict[str, float]:
        """Averages by `<task>.<metric>`.

        bpb is all bits over all bytes: an answer counts by its length, as text does. (The mean of
        each item's own ratio is ruled by answers of one word.)
        """
        values = {"bpb": self.bits_N.sum() / self.bytes_N.sum()}
        if target.kind == "choices":
            values |= {
                "prob": self.prob_N.mean(),
                "accuracy": self.correct_N.mean(),
                "accuracy_norm": self.correct_norm_N.mean(),
            }
        return {f"{target.name}.{name}": float(value) for name, value in values.items()}


def measure(
    model: Any, targets: Sequence[Target], tokenizer: str, sequence: int
) -> dict[str, float]:
    """Metrics of a model on all targets, by `<task>.<metric>`.

    Args:
        model: a transformers causal language model, on its device.
        targets: what to measure on; an empty sequence gives no metrics.
        tokenizer: tokenizer.json of the model.
        sequence: tokens that the model was trained to look at.

    Raises:
        InputError: a target's file cannot be read, or a line of it is not an item.
        TrialError: a likelihood is NaN or infinite.
    """
    metrics: dict[str, float] = {}
    for target in targets:
        metrics |= item_scores(model, target, tokenizer, sequence).metrics(target)
    return metrics


def item_scores(model: Any, target: Target, tokenizer: str, sequence: int) -> ItemScores:
    """Score each item of a target, in order of the items' hashes; arguments as for `measure`.

    `prob` is a softmax over the choices' log-likelihoods per byte: of whole likelihoods the
    shortest choice would take nearly all.

    Source:
        Probability of the right choice among the choices, length-normalised: DataDecide
        (arXiv 2504.11393), "norm correct prob" per character.

    Raises:
        InputError, TrialError: as for `measure`.
    """
    items = load_items(target, tokenizer, sequence)
    tails = tail_bits(model, [passage for item in items for passage in item.passages])
    if not np.isfinite(tails).all():
        raise TrialError(f"target {target.name!r}: the model gives NaN or infinite likelihoods")
    rows = []
    position = 0
    for item in items:
        count = sum(len(passage.tails) for passage in item.passages)
        rows.append(_score(item, tails[position : position + count]))
        position += count
    return ItemScores(*np.array(rows, dtype=np.float64).T)


def _score(item: Item, bits: Array) -> tuple[float, float, float, float, float]:
    if len(item.n_bytes) == 1:
        return float(bits.sum()), item.n_bytes[0], 1.0, 1.0, 1.0
    per_byte = bits / np.array(item.n_bytes)
    odds = np.exp2(per_byte.min() - per_byte)
    return (
        float(bits[item.label]),
        item.n_bytes[item.label],
        float(odds[item.label] / odds.sum()),
        float(bits.argmin() == item.label),
        float(per_byte.argmin() == item.label),
    )


def tail_bits(model: Any, passages: Sequence[Passage]) -> Array:
    """-log2 likelihood of every tail of every passage given its context, shape (P,).

    The tails of a passage stand in one row after one copy of the context; the attention mask hides
    them from each other, and each is numbered as if it followed the context.
    """
    import torch

    first_tail = np.cumsum([0, *(len(passage.tails) for passage in passages)])
    bits = np.zeros(first_tail[-1])
    shares = getattr(model.config, "model_type", None) in SHARES_CONTEXT
    rows = [
        (passage.context, tuple(enumerate(passage.tails, start=int(first))))
        for passage, first in zip(passages, first_tail, strict=False)
    ]
    if not shares:
        rows = [(context, (tail,)) for context, tails in rows for tail in tails]
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in _batches([_Row.of(*row) for row in rows], model.device.type):
            np.add.at(bits, *_batch_bits(model, batch))
    model.train(was_training)
    return bits


@dataclass(frozen=True)
class _Row:
    """One row of a batch: what is read, and which place predicts which token of which tail."""

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    segments: tuple[int, ...]
    """0 for the context, 1, 2, ... for the tails."""

    predictors: tuple[int, ...]
    predicted: tuple[int, ...]
    tails: tuple[int, ...]

    @classmethod
    def of(cls, context: tuple[int, ...], tails: tuple[tuple[int, tuple[int, ...]], ...]) -> _Row:
        ids, segments = list(context), [0] * len(context)
        positions = list(range(len(context)))
        predictors: list[int] = []
        for segment, (_, tail) in enumerate(tails, start=1):
            predictors += [len(context) - 1, *range(len(ids), len(ids) + len(tail) - 1)]
            ids += tail[:-1]
            segments += [segment] * (len(tail) - 1)
            positions += range(len(context), len(context) + len(tail) - 1)
        return cls(
            tuple(ids),
            tuple(positions),
            tuple(segments),
            tuple(predictors),
            tuple(token for _, tail in tails for token in tail),
            tuple(number for number, tail in tails for _ in tail),
        )


def _batches(rows: list[_Row], device: str) -> Iterator[list[_Row]]:
    """Rows of like length together, so that little is padded."""
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: (len(row.ids), row.tails[0])):
        if batch and len(row.ids) * (len(batch) + 1) > TOKENS_AT_ONCE[device]:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _batch_bits(model: Any, rows: list[_Row]) -> tuple[list[int], Array]:
    """For every token of every tail in a batch: the tail's number, and the token's bits."""
    import torch

    width = max(len(row.ids) for row in rows)

    def padded(name: str, fill: int) -> Tensor:
        values = [(*getattr(row, name), *[fill] * (width - len(row.ids))) for row in rows]
        return torch.tensor(values, device=model.device)

    ids_BT = padded("ids", 0)
    if any(row.segments[-1] > 1 for row in rows):
        mask_BTT = _mask(padded("segments", -1))
        hidden_BTD = hidden_states(model, ids_BT, mask_BTT, padded("positions", 0))
    else:  # plain causal attention: padding stands behind everything that is looked at
        hidden_BTD = hidden_states(model, ids_BT)
    places = [i * width + place for i, row in enumerate(rows) for place in row.predictors]
    hidden_PD = hidden_BTD.flatten(0, 1)[torch.tensor(places, device=model.device)]
    predicted = [token for row in rows for token in row.predicted]
    nats_P = token_nats(model, hidden_PD, torch.tensor(predicted, device=model.device))
    bits_P: Array = nats_P.double().cpu().numpy() / np.log(2.0)
    return [tail for row in rows for tail in row.tails], bits_P


def _mask(segments_BT: Tensor) -> Tensor:
    """True where row b's place q may look at place k: not ahead, in the context or its own tail.

    Padding may look at the context, like everything: a place that sees nothing would be NaN.
    """
    import torch

    width = segments_BT.shape[1]
    behind_TT = torch.ones(width, width, dtype=torch.bool, device=segments_BT.device).tril()
    own_BTT = segments_BT[:, :, None] == segments_BT[:, None, :]
    context_B1T = segments_BT[:, None, :] == 0
    return ((own_BTT | context_B1T) & behind_TT)[:, None]

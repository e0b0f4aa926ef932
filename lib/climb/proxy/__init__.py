"""A mixture -> metrics: train a small model on it and measure it on the targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable


@dataclass(frozen=True, kw_only=True)
class Target:
    """Items that a model is measured on; its metrics are named `<name>.<metric>`."""

    name: str
    kind: Literal["choices", "text"]
    """choices: JSON Lines of {context, choices, label}; text: JSON Lines of {text}."""

    path: str
    """JSON Lines file, .gz or plain."""

    limit: int | None = None
    """Items used, lowest SHA-256 of the line first; None uses all."""


@dataclass(frozen=True, kw_only=True)
class ProxyRun:
    """One training run. Equal runs give equal metrics, bit for bit, on one kind of device."""

    weights: Mapping[str, float]
    """Domain name -> share of tokens; sums to 1."""

    shards: Mapping[str, str]
    """Domain name -> .npy file of its token ids, a flat unsigned integer array."""

    tokenizer: str
    """tokenizer.json, read by `tokenizers.Tokenizer.from_file`."""

    n_tokens: int
    seed: int
    start: str | None
    """Folder of the checkpoint that is continued; None starts from random weights."""

    save: str | None
    """Folder that the trained model is saved to, whole or not at all; None keeps no model."""

    checkpoints: str
    """Folder for this run's own resume points; removed when the run ends well."""

    checkpoint_steps: int
    targets: tuple[Target, ...] = field(default=())


@runtime_checkable
class Proxy(Protocol):
    """A model architecture with its training recipe."""

    def train(self, run: ProxyRun, device: str) -> dict[str, float]:
        """Train, measure and return the metrics by name.

        Raises:
            TrialError: the loss became NaN or infinite, or memory ran out: the trial counts as
                failed. Every other error stops the search, since it may be mended.
        """

"""The domain weights of DoReMi: group distributionally robust optimization over domains.

    weights = DomainWeights(n_domains=3, step_size=1.0, smoothing=1e-3)
    weights_K = weights.update(excess_B, domain_B)     # once per step, before the model is updated
    weights.averaged_K                                 # the mixture, after the last step

The proxy minimizes its loss, weighted by domain. Weight moves to the domains on which the proxy's
loss exceeds that of the reference model most. If a domain is noise, neither model learns it, so its
excess stays small.

Source:
    DoReMi (arXiv 2305.10429), algorithm 1; group DRO: Sagawa et al. (arXiv 1911.08731).

Axes: B sequences of a batch, T predicted tokens of a sequence, K domains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class WeightsPoint:
    """The domain weights after a step."""

    step: int
    """Number of completed steps."""

    weights: Mapping[str, float]
    averaged: Mapping[str, float]
    """Mean weights over the steps so far. At the last step they are the mixture of DoReMi."""

    excess: Mapping[str, float]
    """Excess loss over the reference model in nats, in the last batch that has the domain."""


def read_weights(path: Path) -> list[WeightsPoint]:
    """Read the points in the file of a `DoremiProxy`, in order of the steps."""
    return [WeightsPoint(**point) for point in json.loads(path.read_bytes())]


def average_by_domain(excess_B: Array, domain_B: Ints, earlier_K: Array) -> Array:
    """Average the excess loss of each domain over its tokens in a batch.

    Args:
        excess_B: mean of max(loss - reference loss, 0) over the tokens of each sequence, in nats.
            All sequences have equal lengths.
        domain_B: domain of each sequence, as an index below K.
        earlier_K: excess loss for the domains that the batch lacks, as in the authors' code
            (github.com/sangmichaelxie/doremi). The paper's batches have all domains.

    Returns:
        Excess loss of each domain, shape (K,).
    """
    n_K = np.bincount(domain_B, minlength=len(earlier_K))
    total_K = np.bincount(domain_B, weights=excess_B, minlength=len(earlier_K))
    excess_K: Array = np.where(n_K > 0, total_K / np.maximum(n_K, 1), earlier_K)
    return excess_K


def update_weights(weights_K: Array, excess_K: Array, step_size: float, smoothing: float) -> Array:
    """Take a step of exponentiated gradient ascent, and mix the result with the uniform mixture.

    Args:
        weights_K: weights before the step; they sum to 1 and are above 0.
        excess_K: excess loss of each domain in nats.
        step_size: factor of the excess loss in the exponent.
        smoothing: share of the uniform mixture, above 0, so that a weight can always grow again.

    Returns:
        New weights, shape (K,). They sum to 1, and none is below smoothing / K.
    """
    grown_K = weights_K * np.exp(step_size * (excess_K - excess_K.max()))
    new_K: Array = (1.0 - smoothing) * grown_K / grown_K.sum() + smoothing / len(weights_K)
    return new_K


def weigh_sequences(weights_K: Array, domain_B: Ints) -> Array:
    """Return the factor of each sequence's loss in a batch, shape (B,), with mean 1.

    Batches have about equally many sequences of each domain. So a sequence gets the weight of its
    domain, divided by the mean over the batch, as in the authors' code. With equally many
    sequences, the loss is that of the paper: the sum over domains of weight times mean loss.
    """
    weight_B = weights_K[domain_B]
    factor_B: Array = weight_B / weight_B.mean()
    return factor_B


class DomainWeights:
    """The domain weights of a run, and their average over its steps."""

    weights_K: Array
    """Weights of the last step."""

    excess_K: Array
    """Excess loss of each domain in the last batch that had it; 0 before the first one."""

    n_steps: int

    def __init__(self, n_domains: int, step_size: float, smoothing: float) -> None:
        """Start with uniform weights; the arguments are those of `update_weights`."""
        self._step_size, self._smoothing = step_size, smoothing
        self.weights_K = np.full(n_domains, 1.0 / n_domains)
        self.excess_K = np.zeros(n_domains)
        self._total_K = np.zeros(n_domains)
        self.n_steps = 0

    @property
    def averaged_K(self) -> Array:
        """Mean weights over all steps, without the initial ones: the mixture of DoReMi."""
        return self._total_K / self._total_K.sum() if self.n_steps else self.weights_K

    def update(self, excess_B: Array, domain_B: Ints) -> Array:
        """Update the weights with a batch, and return them; they weigh the losses of this batch.

        The arguments are those of `average_by_domain`.
        """
        self.excess_K = average_by_domain(excess_B, domain_B, self.excess_K)
        self.weights_K = update_weights(
            self.weights_K, self.excess_K, self._step_size, self._smoothing
        )
        self._total_K = self._total_K + self.weights_K
        self.n_steps += 1
        return self.weights_K

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on, as lists and numbers."""
        arrays = {"weights": self.weights_K, "excess": self.excess_K, "total": self._total_K}
        return {name: array_K.tolist() for name, array_K in arrays.items()} | {
            "n_steps": self.n_steps
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`."""
        self.weights_K, self.excess_K = np.array(state["weights"]), np.array(state["excess"])
        self._total_K, self.n_steps = np.array(state["total"]), state["n_steps"]

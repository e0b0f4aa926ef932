"""The cost of repeated text, as effective weights of the domains that a run repeats.

A run that reads a domain e times gains less from it than from e times as much new text. Such a
domain counts with a smaller, effective weight:

    effective = weight * n(e) / e,   n(e) = 1 + decay * (1 - exp(-(e - 1) / decay))

for e above 1; otherwise all text is new. n(e) is the number of epochs of new text that would help
as much as e epochs of the same text. Predictors are fitted to the effective weights of the runs,
and mixtures are predicted with the epochs of the target run. So what was learnt from runs with few
epochs holds for a target run with many epochs. `climb.search.repetition_cost` measures the decay.

Source:
    The form of n(e) is that of Muennighoff et al. 2023 (arXiv 2305.16264), who found a decay of
    about 15 for models of up to 9 B parameters.

Axes: K domains, M mixtures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Repetition:
    """Effective weights for a measured decay."""

    decay: float
    available_K: Array
    """Tokens of each domain."""

    target_tokens: float
    """Tokens of the target run; predicted mixtures repeat text as in this run."""

    def discount(self, weights_MK: Array, tokens_M: Array | None = None) -> Array:
        """Return effective weights, shape (M, K).

        Args:
            weights_MK: mixtures.
            tokens_M: tokens that each run read; None: those of the target run. A run whose tokens
                are not known (NaN) counts as one that repeats nothing.
        """
        if tokens_M is None:
            tokens_M = np.full(len(weights_MK), self.target_tokens)
        epochs_MK = count_epochs(weights_MK, tokens_M, self.available_K)
        new_MK = count_new_epochs(np.maximum(epochs_MK, 1.0), self.decay)
        return np.asarray(weights_MK * new_MK / np.maximum(epochs_MK, 1.0))


def count_new_epochs(epochs: ArrayLike, decay: float) -> Array:
    """Return how many epochs of new text help as much as `epochs` (1 or more) of the same text."""
    return 1.0 - decay * np.expm1((1.0 - np.asarray(epochs, dtype=np.float64)) / decay)


def count_epochs(weights_MK: Array, tokens_M: Array, available_K: Array) -> Array:
    """Return how often runs read each domain, shape (M, K); 0 where that is unknown."""
    read_MK = weights_MK * tokens_M[:, None]
    epochs_MK = np.divide(read_MK, available_K, out=np.zeros_like(read_MK), where=available_K > 0.0)
    return np.asarray(np.nan_to_num(epochs_MK, nan=0.0))

"""Text -> quality scores. A recipe (frozen dataclass) whose `load` gives a function of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Score = Callable[[Sequence[str]], dict[str, NDArray[np.float32]]]
"""N texts -> score name -> values_N: float32, finite, higher is better."""


@runtime_checkable
class Scorer(Protocol):
    """One or several quality scores that come from one model or rule set."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scores, unique over all scorers of a configuration."""

    def load(self, device: str) -> Score:
        """Load the model onto `cpu`, `cuda:0`, ...; heavy imports belong in here."""

"""The natural mixture: token shares of the domains.

Axes: K domains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def compute_token_shares(tokens_K: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute each domain's share of all tokens, shape (K,), from token counts of shape (K,)."""
    shares_K: NDArray[np.float64] = tokens_K / tokens_K.sum()
    return shares_K

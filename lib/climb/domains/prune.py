"""Prune clusters: drop those with low quality scores, or keep the best up to a token share.

Axes: C clusters, S scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from climb.errors import ConfigError

Array = NDArray[np.float64]


def prune(
    scores_CS: Array, names: Sequence[str], thresholds: Mapping[str, float]
) -> tuple[NDArray[np.bool_], list[str | None]]:
    """Drop every cluster in which the mean of any score is below that score's threshold.

    Args:
        scores_CS: mean of each score over a cluster's documents.
        names: names of the S scores.
        thresholds: score name -> smallest mean that is kept; higher scores are better.

    Returns:
        kept_C, and the reason why each cluster is dropped; None where it is kept.

    Raises:
        ConfigError: a threshold names a score that does not exist.

    Source:
        CLIMB (arXiv 2504.13161) drops clusters under a mean of 3.0; "any score" is NVIDIA's recipe.
    """
    unknown = sorted(set(thresholds) - set(names))
    if unknown:
        raise ConfigError(
            f"prune.thresholds names unknown scores {', '.join(map(repr, unknown))}; "
            + (f"the scores are {', '.join(sorted(names))}" if names else "score.scorers is empty")
        )
    reasons: list[str | None] = []
    for scores_S in scores_CS:
        means = dict(zip(names, scores_S.tolist(), strict=True))
        low = [
            f"{name} {means[name]:.4g} < {threshold:g}"
            for name, threshold in sorted(thresholds.items())
            if means[name] < threshold
        ]
        reasons.append("; ".join(low) or None)
    return np.array([reason is None for reason in reasons], dtype=bool), reasons


def prune_to_share(
    scores_CS: Array, tokens_C: NDArray[np.int64], share: float
) -> tuple[NDArray[np.bool_], list[str | None]]:
    """Keep the best clusters, by the mean of their scores, until they have a share of all tokens.

    The cluster that reaches the share is kept too. Of two clusters with the same mean, the one with
    the lower number is kept first.

    Args:
        scores_CS: mean of each score over a cluster's documents.
        tokens_C: tokens of each cluster.
        share: share of all tokens, in (0, 1].

    Returns:
        kept_C, and the reason why each cluster is dropped; None where it is kept.

    Raises:
        ConfigError: there is no score.
    """
    if not scores_CS.shape[1]:
        raise ConfigError("prune.keep_token_share needs scores, but score.scorers is empty")
    mean_C = scores_CS.mean(axis=1)
    order_C = np.argsort(-mean_C, kind="stable")
    before_C = np.concatenate([[0], np.cumsum(tokens_C[order_C])[:-1]])
    kept_C = np.zeros(len(mean_C), dtype=bool)
    # `share * tokens_C.sum()` may be rounded up. If some clusters together have exactly the wanted
    # share, one more cluster would then be kept. The factor 1 - 1e-12 prevents this.
    kept_C[order_C] = before_C < share * tokens_C.sum() * (1 - 1e-12)
    worst = mean_C[kept_C].min(initial=np.inf)
    explanation = (
        f"the kept clusters (lowest mean: {worst:.4g}) have at least {share:.4g} of all tokens"
    )
    reasons = [
        None if kept else f"mean score {mean:.4g}: {explanation}"
        for kept, mean in zip(kept_C, mean_C, strict=True)
    ]
    return kept_C, reasons

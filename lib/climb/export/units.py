"""Convert the weights of a mixture from shares of tokens to shares of documents.

Some trainers need shares of documents. Such a trainer draws each document from a domain with a
given probability. The number of tokens that the trainer reads of a domain is proportional to this
probability times the domain's mean tokens per document. So the probability must be proportional to
weight / mean tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

from climb.errors import MixtureError


def convert_weights(
    weights: Mapping[str, float], mean_tokens: Mapping[str, float]
) -> dict[str, float]:
    """Convert shares of tokens to shares of documents.

    Args:
        weights: domain -> share of tokens; they need not sum to 1.
        mean_tokens: domain -> tokens per document.

    Returns:
        Domain -> share of documents; the shares sum to 1.

    Raises:
        MixtureError: a domain has no documents, or no weight is positive.
    """
    empty = sorted(name for name in weights if not mean_tokens.get(name, 0.0) > 0.0)
    if empty:
        raise MixtureError(f"the number of tokens per document is unknown for {', '.join(empty)}")
    documents = {name: weight / mean_tokens[name] for name, weight in weights.items()}
    total = sum(documents.values())
    if not total > 0.0:
        raise MixtureError("no domain has a positive weight")
    return {name: share / total for name, share in documents.items()}

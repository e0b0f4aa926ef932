"""Bytes of tables and files."""

from __future__ import annotations

from collections.abc import Mapping

from climb.config import Config
from climb.estimate.corpus import count_fitted, find_width
from climb.estimate.models import count_parameters, count_vocabulary
from climb.estimate.rates import Rates
from climb.estimate.stage import Workload
from climb.estimate.training import (
    count_components,
    count_mixed_tokens,
    count_models,
    count_packed_tokens,
    shares_base,
)

FLOAT_BYTES = 4
"""Bytes of a number in a vector, and of a parameter in the folder of a model."""

TEXTLESS_SHARE = 0.01
"""Size of table `corpus` without texts (`mix.text: false`) / its size with them.
Source: docs/decisions/mixing.md."""

SMALL_IDS = 1 << 16
"""Largest vocabulary for which a token of a shard has two bytes; a larger one needs four."""


def estimate_sizes(
    cfg: Config, workload: Workload, rates: Rates, parameters: Mapping[str, float]
) -> dict[str, float]:
    """Estimate the bytes of what a run leaves on disk.

    Earlier versions of tables, and checkpoints of trainings that have not ended, are not counted.
    The sizes of vectors, token ids and model parameters are known. For all other data, `rates`
    contains measured numbers of bytes per document or per byte of text.

    Raises:
        ConfigError: a rate or the size of a model is unknown.
    """
    documents, width = workload.documents, find_width(cfg)
    embedded = count_fitted(cfg, workload) if cfg.cluster.embeddings == "sample" else documents
    mixed = count_mixed_tokens(cfg) * workload.bytes_per_token

    def find(name: str) -> float:
        return rates.find(f"size.{name}", f"the size of {name}").value

    id_bytes = 2 if count_vocabulary(cfg) <= SMALL_IDS else 4
    return {
        "documents": workload.text_bytes * find("documents"),
        "tokens": documents * find("tokens"),
        "embeddings": embedded * (width * FLOAT_BYTES + find("tokens")),
        "scores": documents * find("scores") * max(1, len(cfg.score.scorers)),
        "assignments": documents * find("assignments"),
        "shards": count_packed_tokens(cfg, workload) * id_bytes,
        "models": FLOAT_BYTES * _count_kept_parameters(cfg, parameters),
        "corpus": mixed * find("corpus") * (1.0 if cfg.mix.text else TEXTLESS_SHARE),
        "mixed (export)": mixed * find("mixed"),
    }


def _count_kept_parameters(cfg: Config, parameters: Mapping[str, float]) -> float:
    """Count the parameters of base checkpoints, components and target models that are kept."""
    vocabulary, n_models = count_vocabulary(cfg), count_models(cfg)
    n_bases = 0 if shares_base(cfg) else min(1, n_models)
    n_targets = n_bases + (n_models if cfg.train.keep_models else 0)
    runs = (
        ("proxy.model", cfg.proxy.model, 1 + count_components(cfg)),
        ("train.model", cfg.train.model, n_targets),
    )
    return sum(
        n * count_parameters(key, spec, vocabulary, parameters).parameters
        for key, spec, n in runs
        if n
    )

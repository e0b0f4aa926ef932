"""Bytes of tables and files."""

from __future__ import annotations

from climb.config import Config
from climb.estimate.models import count_vocabulary
from climb.estimate.rates import Rates
from climb.estimate.stage import Workload
from climb.estimate.training import count_mixed_tokens, count_packed_tokens

FLOAT_BYTES = 4
SMALL_IDS = 1 << 16
"""Vocabulary up to which a token of a shard has two bytes, else four."""


def estimate_sizes(cfg: Config, workload: Workload, rates: Rates) -> dict[str, float]:
    """Estimate the bytes of what a run leaves on disk, without earlier versions of tables.

    Vectors and tokens have known sizes; for the other tables, the rates have bytes per document or
    per byte of text as they were measured.

    Raises:
        ConfigError: a rate is unknown.
    """
    documents, width = workload.documents, int(cfg.embed.embedder["dim"])
    mixed = count_mixed_tokens(cfg) * workload.bytes_per_token

    def find(name: str) -> float:
        return rates.find(f"size.{name}", f"the size of {name}").value

    id_bytes = 2 if count_vocabulary(cfg) <= SMALL_IDS else 4
    return {
        "documents": workload.text_bytes * find("documents"),
        "tokens": documents * find("tokens"),
        "embeddings": documents * (width * FLOAT_BYTES + find("tokens")),
        "scores": documents * find("scores") * max(1, len(cfg.score.scorers)),
        "assignments": documents * find("assignments"),
        "shards": count_packed_tokens(cfg, workload) * id_bytes,
        "corpus": mixed * find("corpus"),
        "mixed (export)": mixed * find("mixed"),
    }

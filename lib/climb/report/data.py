"""What a report is made of: plain rows, read from the tables by `climb.spark.report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from climb.search.compare import Gain

METHODS = ("found", "natural", "uniform")
"""Mixtures that are compared, in the order in which they are shown."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """One answer: shares of tokens by domain name, and how often each domain is repeated."""

    weights: Mapping[str, float]
    epochs: Mapping[str, float]
    score: float | None = None
    """What the predictor expects; higher is better."""

    score_std: float | None = None


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A row of `domains`."""

    name: str
    n_documents: int
    n_tokens: int
    token_share: float
    terms: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    clusters: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A row of `trials`."""

    trial_id: str
    round_: int
    method: str
    """proposal, natural, uniform or found."""

    seed: int
    metrics: Mapping[str, float]
    finished: bool
    error: str | None
    n_tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A row of `evaluations`: one metric of one larger model."""

    method: str
    seed: int
    metric: str
    value: float
    n_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A row of `clusters`."""

    cluster: int
    n_documents: int
    n_tokens: int
    scores: Mapping[str, float]
    kept: bool
    reason: str | None
    domain: str | None


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Rows that one reason kept out of `documents`."""

    reason: str
    n_rows: int
    example: str = ""
    """File and detail of one of them."""


@dataclass(frozen=True, kw_only=True)
class CorpusShare:
    """What the mixed dataset holds of one domain."""

    domain: str
    n_documents: int
    n_tokens: int


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything the report shows. Only `mixtures` is needed; the rest says when it is missing."""

    search: str
    objective: str
    mixtures: Mapping[str, Mixture]
    """By method; `found` is there."""

    verdict: str | None = None
    """What the search concluded from its proxies: `gain` or `no gain found`."""

    direct: Mapping[str, Gain] = field(default_factory=dict)
    """found minus natural and found minus uniform, measured on proxies over seeds."""

    evidence: Mapping[str, Any] = field(default_factory=dict)
    """`mixtures.evidence` of the found row, as it was written."""

    domains: tuple[Domain, ...] = ()
    trials: tuple[Trial, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    corpus: tuple[CorpusShare, ...] = ()
    n_documents: int | None = None
    """Rows of `documents`: what ingest kept."""

    max_epochs: float | None = None
    own_epochs: Mapping[str, float] = field(default_factory=dict)
    """Limits of epochs of single domains, where they have one that differs."""

    versions: Mapping[str, int] = field(default_factory=dict)
    """Table name -> version that was read."""

    configuration: str = ""
    """The resolved configuration as YAML."""

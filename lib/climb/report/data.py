"""What a report is made of: the search result and plain rows of the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from climb.dataset.card import DomainCounts
from climb.search.result import SearchResult
from climb.search.trials import RECOMMENDED


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
    """proposal, recommended, or the name of a baseline."""

    seed: int
    metrics: Mapping[str, float]
    finished: bool
    error: str | None
    n_tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A row of `evaluations`: one metric of one target model."""

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
    """Rows that ingest rejected for one reason."""

    reason: str
    n_rows: int
    example: str = ""
    """File and detail of one of them."""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything the report shows. Only `result` is required; the page says what is missing."""

    result: SearchResult
    domains: tuple[Domain, ...] = ()
    trials: tuple[Trial, ...] = ()
    """Trials of the result's plan."""

    evaluations: tuple[Evaluation, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    corpus: Mapping[str, DomainCounts] = field(default_factory=dict)
    """Domain -> what the mixed dataset contains of it."""

    n_documents: int | None = None
    """Rows of `documents`: what ingest kept."""

    max_epochs: float | None = None
    domain_max_epochs: Mapping[str, float] = field(default_factory=dict)
    """Limits of epochs of single domains that differ from `max_epochs`."""

    versions: Mapping[str, int] = field(default_factory=dict)
    """Table name -> version that was read."""

    configuration: str = ""
    """The resolved configuration as YAML."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The compared mixtures in the order of display: the recommendation, then the baselines."""
        return (RECOMMENDED, *self.result.baselines)

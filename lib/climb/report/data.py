"""The input of a report: the search result, and rows of the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

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
    status: Literal["finished", "failed", "stopped"]
    """`stopped` means that successive halving stopped the trial. The metrics and tokens are then
    those of the trial's last rung."""

    error: str | None
    n_tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A row of `evaluations`: one metric of one target model."""

    model: str
    """Name of the model; methods with equal mixtures share a model."""

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
    """The rows that the job `ingest` rejected for the same reason."""

    reason: str
    n_rows: int
    example: str = ""
    """File and detail of one of the rows."""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that the report shows. Only `result` is required; the page names missing parts."""

    result: SearchResult
    domains: tuple[Domain, ...] = ()
    trials: tuple[Trial, ...] = ()
    """Trials that `result.plan` lists. Methods with equal mixtures share trials, so a trial may
    occur several times, once for each method."""

    evaluations: tuple[Evaluation, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    corpus: Mapping[str, DomainCounts] = field(default_factory=dict)
    """Domain -> documents and tokens in the mixed dataset."""

    n_documents: int | None = None
    """Number of rows of table `documents`."""

    max_epochs: float | None = None
    domain_max_epochs: Mapping[str, float] = field(default_factory=dict)
    """Domain -> its own limit of epochs, if that differs from `max_epochs`."""

    versions: Mapping[str, int] = field(default_factory=dict)
    """Table name -> version that the report shows."""

    configuration: str = ""
    """The resolved configuration as YAML. Section `search` has the settings that the result was
    made with."""

    other_dataset: str = ""
    """What the mixed dataset was made from, if not from this result. Empty if it was made from this
    result, or if there is no mixed dataset."""

    settings_note: str = ""
    """One line that names the settings of section `search` that have changed since the result was
    made; empty if none has changed."""

    models_note: str = ""
    """One line that says that the target models are not those of the configuration; else empty."""

    @property
    def unique_trials(self) -> tuple[Trial, ...]:
        """The trials, each of them once."""
        return tuple({trial.trial_id: trial for trial in self.trials}.values())

    @property
    def methods(self) -> tuple[str, ...]:
        """The compared mixtures in the order of display: the recommendation, then the baselines."""
        return (RECOMMENDED, *self.result.baselines)

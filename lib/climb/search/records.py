"""The parts of a search result: frozen records with plain values; see `climb.search.result`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from climb.search.effects import TradeOff

Known = Annotated[
    float | None,
    BeforeValidator(lambda v: None if isinstance(v, float) and not math.isfinite(v) else v),
]
"""A number; null if it is unknown. JSON has no NaN and no inf, so both become null."""


class Record(BaseModel):
    """Every record is frozen and refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MixtureRecord(Record):
    """A mixture with its predicted score."""

    name: str
    """`recommended`, or the name of a baseline."""

    weights: dict[str, float]
    epochs: Mapping[str, Known]
    """How often the target run reads each domain; null where the tokens are unknown."""

    score: float
    score_std: float


class RoundQuality(Record):
    """The predictor's quality with all trials up to and including one round."""

    round: int
    n_trials: int
    spearman: Mapping[str, Known]
    """Metric (or `score`) -> rank correlation in cross-validation."""


class PredictedScore(Record):
    """Predicted and measured score of one mixture in cross-validation."""

    predicted: Known
    measured: Known


class CalibrationRecord(Record):
    """How scores follow their predictions in cross-validation; see `climb.search.calibration`."""

    center: float
    slope: float
    slope_std: float
    inflation: float
    inflation_trend: float
    spread: float
    """If errors depend on the mixture, each mixture has a factor for the standard deviation of its
    errors (see `climb.search.spread`). This field is the largest factor divided by the smallest,
    without the 5 % of mixtures with the largest factors and the 5 % with the smallest. If errors do
    not depend on the mixture, the field is 1."""

    scores: tuple[PredictedScore, ...]


class Effect(Record):
    """Change of a metric with its standard deviation; positive is better."""

    mean: float
    std: float


class EffectsRecord(Record):
    """Effects of moving the share `step` of the recommended mixture to one domain."""

    step: float
    domains: dict[str, dict[str, Effect]]
    """Domain -> metric (or `score`) -> effect."""

    trade_offs: tuple[TradeOff, ...]

    def rank_metrics(self, metric_weights: Mapping[str, float]) -> list[str]:
        """List the metrics; those whose effects change the score most come first."""
        names = {name for row in self.domains.values() for name in row} - {"score"}
        influence = {
            name: abs(metric_weights.get(name, 0.0))
            * max(abs(row[name].mean) for row in self.domains.values())
            for name in names
        }
        return sorted(influence, key=lambda name: (-influence[name], name))


class RepetitionRecord(Record):
    """How predictions discount repeated text; see `climb.search.repetition`."""

    decay: float
    epochs_per_weight: dict[str, float]
    """Domain -> epochs of a target run that reads only this domain."""


class PlannedRecord(Record):
    """A trial's part in this search; another search may have trained the trial."""

    trial_id: str
    round: int
    method: str
    seed: int
    stopped_at: int | None = None
    """Tokens after which successive halving stopped it; null: it was trained in full, or failed."""


class HalvingRecord(Record):
    """What successive halving saved, over all trials of the search."""

    n_stopped: int
    n_tokens: int
    """Tokens that all trials were trained on."""

    n_tokens_in_full: int
    """Tokens of the same trials without halving."""

    @property
    def token_share(self) -> float:
        """Trained tokens, as a share of the tokens without halving."""
        return self.n_tokens / self.n_tokens_in_full

    def __str__(self) -> str:
        """Return a phrase about the saved tokens, for a sentence of the run log or the report."""
        return (
            f"{self.n_stopped} trial{'' if self.n_stopped == 1 else 's'} stopped early, so "
            f"{self.n_tokens:,} of "
            f"{self.n_tokens_in_full:,} tokens were trained ({self.token_share:.0%})"
        )

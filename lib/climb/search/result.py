"""The record of a finished search: job `search` or `climb recommend` writes it.

    result = SearchResult.build(state, recommend(state))
    text = result.model_dump_json()                      # column `result` of table `mixtures`
    result = SearchResult.from_json(text, "search 'x'")  # a missing or unknown field is an error

Values are keyed by the names of domains, metrics and baselines. Scores: higher is better. An
unknown value is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from climb.errors import SearchError, TableError
from climb.objective import Objective
from climb.predictor import Parameters
from climb.search.calibration import CalibratedScore, cross_validate
from climb.search.effects import STEP
from climb.search.gains import Gain
from climb.search.knowledge_gradient import FurtherRound
from climb.search.problem import Problem, SearchState
from climb.search.recommendation import Recommendation
from climb.search.records import (
    CalibrationRecord,
    Effect,
    EffectsRecord,
    HalvingRecord,
    Known,
    MixtureRecord,
    PlannedRecord,
    PredictedScore,
    Record,
    RepetitionRecord,
    RoundQuality,
)
from climb.search.reuse import ReuseSummary
from climb.search.surrogate import Surrogate
from climb.search.trials import RECOMMENDED

VERSION: Literal[4] = 4
"""Increased with every change of a field, so that a reader detects a record of another version."""

WITHOUT_TABLES: Mapping[str, Any] = {
    "search": "",
    "measured_gains": {},
    "n_failed": 0,
    "plan": (),
    "halving": None,
    "reuse": None,
    "read_versions": {},
}
"""Fields that only job `search` fills, because it reads tables. The values here are those that
`climb recommend` stores, because it reads CSV files."""

WEAK_RANKING = 0.6
"""Spearman correlation below which the order of predicted mixtures is weak evidence."""


class SearchResult(Record):
    """The typed record of a finished search."""

    version: Literal[4]
    search: str
    """Name of the search; empty for runs from CSV files."""

    objective: str
    metric_weights: dict[str, float]
    """Change of the score per unit of each metric; `search.scale` and `down_weight` are applied."""

    domains: tuple[str, ...]
    mixtures: tuple[MixtureRecord, ...] = Field(min_length=1)
    """The recommendation, then the baselines in the order of `search.baselines`."""

    predicted_gains: dict[str, Gain]
    """By baseline: gain of the recommendation, as the surrogate predicts it."""

    measured_gains: dict[str, Gain]
    """By baseline: gain of the recommendation, measured with replicates that are paired by seed."""

    calibration: CalibrationRecord
    quality: tuple[RoundQuality, ...]
    noise: Mapping[str, Known]
    """Standard deviation over seeds by metric; null without replicates."""

    signal_to_noise: Mapping[str, Known]
    """Variance over mixtures / variance over seeds by metric."""

    low_signal_metrics: tuple[str, ...]
    """Metrics whose signal-to-noise ratio is below `search.min_signal_to_noise`."""

    effects: EffectsRecord
    further_round: FurtherRound
    parameters: dict[str, Parameters]
    """By metric: the fitted parameters; empty in BEST.json."""

    repetition: RepetitionRecord | None
    """The cost of repeated text, which `parameters` do not contain; null: none was measured."""

    n_trials: int
    """Trials that the recommendation was computed from, reused ones included."""

    n_mixtures: int
    n_failed: int
    plan: tuple[PlannedRecord, ...]
    """All trials of the search, replicates of the recommendation included."""

    halving: HalvingRecord | None
    """Null: all trials were trained in full (`search.halving` is empty)."""

    reuse: ReuseSummary | None
    read_versions: dict[str, int | None]
    """Table -> version that the search read."""

    @classmethod
    def build(
        cls, state: SearchState, recommendation: Recommendation, **search_fields: Any
    ) -> Self:
        """Build the record of a recommendation.

        Args:
            state: what the recommendation was computed from.
            recommendation: of this state.
            search_fields: fields that only job `search` fills: search, measured_gains, plan,
                n_failed, halving, reuse, read_versions.
        """
        problem, ratios = state.problem, recommendation.signal_to_noise
        return cls(
            version=VERSION,
            objective=problem.required_objective.text,
            metric_weights=_map_weights(problem.required_objective),
            domains=recommendation.domains,
            mixtures=_build_mixtures(state, recommendation),
            predicted_gains={b.name: b.gain for b in recommendation.baselines},
            calibration=_build_calibration(recommendation.validation.score),
            quality=measure_quality_by_round(state, recommendation),
            noise=_map_names(recommendation.metric_names, recommendation.noise_Q),
            signal_to_noise=_map_names(ratios.metric_names, ratios.ratio_Q),
            low_signal_metrics=ratios.list_below(problem.cfg.min_signal_to_noise),
            effects=_build_effects(recommendation),
            further_round=recommendation.further_round,
            parameters=_export_parameters(state.penalized.surrogate),
            repetition=_build_repetition(problem),
            n_trials=recommendation.n_trials,
            n_mixtures=recommendation.n_mixtures,
            **{**WITHOUT_TABLES, **search_fields},
        )

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Read a record.

        Args:
            text: what `model_dump_json` wrote.
            where: the table or file, for the error.

        Raises:
            TableError: a field is missing, unknown or wrong: another version wrote the record.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "the whole record"
            raise TableError(
                f"{where}: the search result cannot be read ({field}: {first['msg']}); another "
                "version of climb wrote it: run `climb search` again"
            ) from error

    @property
    def recommended(self) -> MixtureRecord:
        """The recommended mixture."""
        return self.mixtures[0]

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the baselines; the first is the reference baseline."""
        return tuple(mixture.name for mixture in self.mixtures[1:])

    @property
    def gains(self) -> dict[str, Gain]:
        """By baseline: the measured gain where there is one, else the predicted one."""
        return self.predicted_gains | self.measured_gains

    @property
    def verdict(self) -> str:
        """`gain` or `no gain found`, over the reference baseline."""
        return self.gains[self.baselines[0]].verdict

    @property
    def last_spearman(self) -> float | None:
        """Rank correlation of the score in cross-validation, from all trials."""
        return self.quality[-1].spearman.get("score") if self.quality else None


def measure_quality_by_round(
    state: SearchState, recommendation: Recommendation
) -> tuple[RoundQuality, ...]:
    """Fit predictors to the trials up to each round, and measure their rank correlations."""
    problem = state.problem
    last = int(state.trials.rounds_T.max())
    rounds = []
    for round_ in range(last + 1):
        earlier = state.trials.select_before(round_ + 1)
        if round_ == last:  # `recommendation.quality` is from all trials
            quality = recommendation.quality
        else:
            try:
                surrogate = problem.fit(earlier)
            except SearchError:  # too few mixtures for a fit
                continue
            seed = problem.cfg.seed
            quality = cross_validate(surrogate, earlier, problem.predictor, seed).quality
        rounds.append(RoundQuality(round=round_, n_trials=len(earlier), spearman=quality))
    return tuple(rounds)


def _build_mixtures(
    state: SearchState, recommendation: Recommendation
) -> tuple[MixtureRecord, ...]:
    target_tokens = state.problem.cfg.target_tokens
    space = state.problem.space.reorder_domains(state.restore_K)
    rows: list[tuple[str, NDArray[np.float64], float, float]] = [
        (
            RECOMMENDED,
            recommendation.weights_K,
            recommendation.score_mean,
            recommendation.score_std,
        ),
        *((b.name, b.weights_K, b.score_mean, b.score_std) for b in recommendation.baselines),
    ]
    return tuple(
        MixtureRecord(
            name=name,
            weights=dict(zip(space.domains, weights_K.tolist(), strict=True)),
            epochs=_map_names(space.domains, space.epochs(weights_K, target_tokens)),
            score=score,
            score_std=std,
        )
        for name, weights_K, score, std in rows
    )


def _build_calibration(score: CalibratedScore) -> CalibrationRecord:
    calibration = score.calibration
    return CalibrationRecord(
        center=calibration.center,
        slope=calibration.slope,
        slope_std=calibration.slope_std,
        inflation=calibration.inflation.level,
        inflation_trend=calibration.inflation.trend,
        spread=calibration.spread.ratio if calibration.spread else 1.0,
        scores=tuple(
            PredictedScore(predicted=float(p), measured=float(m))
            for p, m in zip(score.predicted_D, score.measured_D, strict=True)
        ),
    )


def _build_repetition(problem: Problem) -> RepetitionRecord | None:
    repetition, space = problem.repetition, problem.space
    if repetition is None:
        return None
    alone_K = np.diag(space.epochs(np.eye(len(space.domains)), repetition.target_tokens))
    return RepetitionRecord(
        decay=repetition.decay,
        epochs_per_weight=dict(zip(space.domains, alone_K.tolist(), strict=True)),
    )


def _build_effects(recommendation: Recommendation) -> EffectsRecord:
    effects = recommendation.effects
    domains: dict[str, dict[str, Effect]] = {}
    for k, domain in enumerate(effects.domains):
        own = {"score": Effect(mean=effects.score_K[k], std=effects.score_std_K[k])}
        for q, name in enumerate(effects.metric_names):
            own[name] = Effect(mean=effects.mean_KQ[k, q], std=effects.std_KQ[k, q])
        domains[domain] = own
    return EffectsRecord(step=STEP, domains=domains, trade_offs=effects.trade_offs)


def _map_weights(objective: Objective) -> dict[str, float]:
    return {
        objective.metric_names[q]: float(objective.weights_Q[q]) for q in objective.weighted_columns
    }


def _map_names(names: Sequence[str], values: NDArray[np.float64]) -> Mapping[str, Any]:
    return dict(zip(names, values.tolist(), strict=True))


def _export_parameters(surrogate: Surrogate) -> dict[str, Parameters]:
    """Export the fitted parameters by metric; {} where a predictor exports none."""
    names = surrogate.objective.weighted_names
    return dict(zip(names, surrogate.predicts.export(), strict=True))

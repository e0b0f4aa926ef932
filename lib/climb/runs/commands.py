"""The CSV commands `predict`, `propose` and `recommend`.

`predict` predicts the metrics of the mixtures in a file. `propose` writes the mixtures to train
next. `recommend` writes the best mixture.

Axes: T runs, M mixtures, K domains, Q metrics.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from climb.config import build
from climb.errors import InputError
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.predictor import Predictor
from climb.runs import advice
from climb.runs.output import check_output_paths, write_numbers, write_rows, write_text
from climb.runs.prior import note_epochs, note_natural, read_prior
from climb.runs.repetition_advice import DiscountedRuns
from climb.runs.sets import RunFiles, RunSets, read_run_sets
from climb.runs.sheet import METRIC, WEIGHT, Sheet
from climb.search.calibration import CalibratedScore
from climb.search.parallel import use_one_blas_thread
from climb.search.pareto import find_pareto_front
from climb.search.problem import Problem, SearchState
from climb.search.recommendation import recommend as recommend_mixture
from climb.search.result import SearchResult
from climb.search.rounds import propose as propose_mixtures
from climb.search.signal_to_noise import build_objective
from climb.search.smallest_change import SmallestChange, find_smallest_change, require_metric
from climb.search.surrogate import MIN_MIXTURES, Surrogate

if TYPE_CHECKING:
    from climb.config.sections import SearchConfig

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Extras:
    """Further results that `recommend` can be asked for."""

    front: Path | None = None
    """Output file (CSV) for the mixtures of the predicted Pareto front. It has the weights of each
    mixture, and the predicted mean of each metric that the objective uses."""

    improve: tuple[str, float] | None = None
    """A metric and an amount: find the smallest change of the natural mixture that improves the
    metric by this amount."""

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Files that are written."""
        return (self.front,) if self.front else ()


NO_EXTRAS = Extras()

FRONT_WEIGHTINGS = 16
"""A Pareto front is computed from this many weightings of the metrics."""


def predict(
    runs: RunFiles,
    mixtures: Path,
    out: Path,
    cfg: SearchConfig,
    objective: str,
) -> str:
    """Fit predictors on runs, and predict the metrics of a new run of each mixture in a file.

    Each row of `out` has the number of its mixture's row in `mixtures`, and the predicted mean and
    standard deviation of every metric and of the score. The standard deviations are those of one
    new run. They contain the prediction error in cross-validation and the observation noise. For
    runs of several scales, they also contain the error of the level, the part of a metric that all
    mixtures share.

    Returns:
        A summary to print.

    Raises:
        ClimbError: a file or the objective cannot be used.
    """
    check_output_paths([*runs.inputs, mixtures], [out])
    # Every metric is predicted, also those that the objective does not use.
    sets = read_run_sets(runs, objective, cfg, "mean(*):min")
    sheet = Sheet.read(mixtures)
    weights_MK = sheet.read_mixtures(sets.trials.domains)
    spearman = _write_predictions(sets, weights_MK, sheet.numbers, out, cfg, objective)
    notes = advice.Notes(objective, (sets.note,), (out,), scale=sets.scale)
    return advice.describe_predictions(len(weights_MK), len(sets.trials), spearman, notes)


@use_one_blas_thread
def _write_predictions(
    sets: RunSets,
    weights_MK: Array,
    rows_M: Sequence[int],
    out: Path,
    cfg: SearchConfig,
    objective: str,
) -> dict[str, float]:
    """Write `out`; return metric, or `score` -> rank correlation in cross-validation."""
    trials = sets.trials
    wanted = build_objective(objective, sets.own, cfg)
    every = Objective.parse("mean(*):min", trials.metric_names)
    predictor: Predictor = build(cfg.predictor, Predictor)
    order_K = np.argsort(np.array(trials.domains, dtype=object))
    trials = dataclasses.replace(trials, tokens_T=None)
    trials, weights_MK = trials.reorder_domains(order_K), weights_MK[:, order_K]
    surrogate = Surrogate.fit(trials, every, predictor)
    held_out = surrogate.predict_held_out(predictor, cfg.seed)
    means_MQ, stds_MQ = surrogate.predict_metrics(weights_MK)
    header, columns = ["row"], [np.array(rows_M, dtype=np.float64)]
    spearman = {}
    for name in (*trials.metric_names, "score"):
        view = wanted if name == "score" else Objective.from_metric(name, trials.metric_names)
        calibrated = CalibratedScore.fit(surrogate, held_out, view, trials)
        title = name if name == "score" else f"metric.{name}"
        header += [f"{title}.mean", f"{title}.std"]
        mean_M, std_M = calibrated.predict_new_run(weights_MK, means_MQ, stds_MQ)
        level_std = sets.scale.level_stds[name] if sets.scale else None
        columns += [mean_M, np.hypot(std_M, level_std or 0.0)]
        spearman[name] = calibrated.calibration.spearman
    write_numbers(out, header, np.column_stack(columns))
    return spearman


def propose(
    runs: RunFiles,
    prior: Path,
    out: Path,
    n: int,
    cfg: SearchConfig,
    objective: str,
) -> str:
    """Write the n mixtures to train next; with too few runs for a fit, propose a first round.

    Returns:
        A summary to print.

    Raises:
        ClimbError: a file, the objective or a constraint cannot be used.
    """
    check_output_paths([*runs.inputs, prior], [out])
    sets = read_run_sets(runs, objective, cfg)
    trials = sets.trials
    space = read_prior(prior, trials.domains, cfg)
    can_fit = trials.group_replicates().n_mixtures >= MIN_MIXTURES
    # The runs are round 0, and the proposed mixtures are round 1. Without a fit, the proposed
    # mixtures are round 0, and the runs are round -1.
    rounds = (len(trials), n) if can_fit else (n,)
    if can_fit:
        wanted = build_objective(objective, sets.own, cfg)
    else:
        wanted = Objective.parse(objective, trials.metric_names)
        trials = dataclasses.replace(trials, rounds_T=trials.rounds_T - 1)
    own_cfg = cfg.model_copy(update={"trials_per_round": rounds})
    discounted = DiscountedRuns.measure(trials, Problem.from_config(space, wanted, own_cfg))
    problem = discounted.problem
    weights_MK = propose_mixtures(discounted.trials, len(rounds) - 1, problem)
    write_numbers(out, [WEIGHT + domain for domain in space.domains], weights_MK)
    searcher = type(problem.searcher).__name__
    about_epochs = note_epochs(space, prior, cfg.target_tokens, runs.target.tokens)
    remarks = (sets.note, about_epochs)
    notes = advice.Notes(objective, remarks, (out,), scale=sets.scale)
    return advice.describe_proposals(n, len(trials), can_fit, searcher, notes)


def recommend(
    runs: RunFiles,
    prior: Path,
    out: Path,
    cfg: SearchConfig,
    objective: str,
    extras: Extras = NO_EXTRAS,
) -> str:
    """Write the best mixture (CSV), and beside it the search result (JSON).

    Returns:
        Advice to print.

    Raises:
        ClimbError: a file, the objective or a constraint cannot be used.
    """
    result_path = _find_result_path(out)
    check_output_paths([*runs.inputs, prior], [out, result_path, *extras.outputs])
    sets = read_run_sets(runs, objective, cfg)
    space = read_prior(prior, sets.trials.domains, cfg)
    wanted = build_objective(objective, sets.own, cfg)
    if extras.improve:
        require_metric(wanted, extras.improve[0])
    discounted = DiscountedRuns.measure(sets.trials, Problem.from_config(space, wanted, cfg))
    state = SearchState.from_trials(discounted.trials, discounted.problem)
    result = SearchResult.build(state, recommend_mixture(state))
    about_epochs = note_epochs(space, prior, cfg.target_tokens, runs.target.tokens)
    remarks = (sets.note, note_natural(space, prior), about_epochs)
    change = _find_change(state, extras, result)
    written = (out, result_path, *extras.outputs)
    notes = advice.Notes(
        objective, remarks, written, cfg.min_signal_to_noise, sets.scale, change, discounted.cost
    )
    if extras.front:
        write_front(state, extras.front)
    _write_mixture(result, space, out)
    write_text(result_path, _format_contract(result, notes))
    return advice.describe_recommendation(result, space, notes)


def _find_result_path(out: Path) -> Path:
    path = out.with_suffix(".json")
    if path == out:
        raise InputError(
            f"--out is {out}, but the JSON result is written to the same path; name a .csv file"
        )
    return path


def _find_change(state: SearchState, extras: Extras, result: SearchResult) -> SmallestChange | None:
    if not extras.improve:
        return None
    return find_smallest_change(state, *extras.improve).inflate(result.calibration.inflation)


def _format_contract(result: SearchResult, notes: advice.Notes) -> str:
    """Format BEST.json: first the fields that other tools need, then the whole result.

    The `parameters` of the result are left empty: with 110 metrics they take 100 MB, and the fits
    can be computed again from the runs.
    """
    gain = result.gains[result.baselines[0]]
    fields = {
        "weights": result.recommended.weights,
        "gain": {"mean": gain.mean, "low": gain.low, "high": gain.high},
        "p_better": gain.p_better,
        "verdict": result.verdict,
        "scale": notes.scale.to_json() if notes.scale else None,
        "smallest_change": notes.change.to_json() if notes.change else None,
        "repetition": dataclasses.asdict(notes.repetition) if notes.repetition else None,
        "result": result.model_copy(update={"parameters": {}}).model_dump(mode="json"),
    }
    return json.dumps(fields, indent=2, allow_nan=False) + "\n"


def _write_mixture(result: SearchResult, space: FeasibleSet, out: Path) -> None:
    """Write BEST.csv; the cell with a domain's epochs is empty if the epochs are unknown."""
    recommended, natural_K = result.recommended, space.project(space.natural_K)
    rows = [
        [
            domain,
            recommended.weights[domain],
            natural,
            "" if recommended.epochs[domain] is None else recommended.epochs[domain],
        ]
        for domain, natural in zip(space.domains, natural_K.tolist(), strict=True)
    ]
    write_rows(out, ["domain", "weight", "natural", "epochs"], rows)


def write_front(state: SearchState, out: Path) -> None:
    """Write the Pareto front (columns weight.<domain> and metric.<name>), the best score first."""
    weights_PK, means_PQ = find_pareto_front(state, FRONT_WEIGHTINGS)
    domains, objective = state.trials.domains, state.problem.required_objective
    header = [WEIGHT + domains[k] for k in state.restore_K]
    header += [METRIC + name for name in objective.weighted_names]
    write_numbers(out, header, np.hstack([weights_PK, means_PQ]))

"""Read the runs of a CSV command: own runs, runs of other sets, runs of several scales.

Axes: R rows (checkpoints of runs), K domains, Q metrics.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from climb.config import build
from climb.config.sections import SearchConfig
from climb.errors import InputError
from climb.objective import Objective
from climb.predictor import Predictor
from climb.runs.rows import PARAMS, TOKENS
from climb.runs.sheet import normalize
from climb.runs.table import ValidRuns, read_valid_runs
from climb.search.borrow import borrow, match_domains
from climb.search.scale import MIN_LEVEL_RUNS, ExpressedTrials, ScaledRuns, express_at
from climb.search.scale_curve import Scale, varies
from climb.search.scale_dependence import Dependence, measure_dependence
from climb.search.surrogate import MIN_MIXTURES
from climb.search.trials import PROPOSAL, Trials

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """The scale to predict for; None: that of the largest model, after its last tokens."""

    params: float | None = None
    tokens: float | None = None


LARGEST = Target()


@dataclass(frozen=True)
class RunFiles:
    """What a command learns from, and the scale to express it at."""

    paths: Sequence[Path]
    """The file of the own runs, then files of other sets."""

    target: Target = LARGEST


@dataclass(frozen=True)
class ScaleSummary:
    """What a command did with runs of several scales."""

    target: Scale
    n_rows: int
    n_trials: int
    sizes: tuple[tuple[float, int], ...]
    """Each model size with its number of trials."""

    level_std: float | None
    """Standard deviation of the level of the score that all mixtures share; None: unknown."""

    dependence: tuple[Dependence, ...]

    @property
    def n_at_size(self) -> int:
        """Trials of the target's model size."""
        return dict(self.sizes).get(self.target.params, 0)

    @property
    def has_level(self) -> bool:
        """Whether enough runs of the target's size determine the level."""
        return self.n_at_size >= MIN_LEVEL_RUNS


@dataclass(frozen=True, eq=False)
class RunSets:
    """The runs that a command learns from."""

    own: Trials
    trials: Trials
    """Own runs, and those of other sets as far as they help (`climb.search.borrow`)."""

    note: str
    """On ignored rows and on other sets; empty if there is nothing to say."""

    scale: ScaleSummary | None
    """None if all own runs have one scale."""


def read_run_sets(files: RunFiles, objective: str, cfg: SearchConfig) -> RunSets:
    """Read the own runs, and add those of other files as far as they help.

    Args:
        files: own runs and other sets.
        objective: metrics that the other sets have to help with.
        cfg: predictor, seed, and `reuse_min_kept`.

    Raises:
        InputError: a file cannot be used.
        SearchError: too few own runs, or a set without common domains or metrics.
    """
    valid = read_valid_runs(files.paths[0])
    predictor: Predictor = build(cfg.predictor, Predictor)
    wanted = Objective.parse(objective, sorted(valid.metrics))
    own, scale = _express(valid, files.target, wanted, predictor)
    if len(files.paths) == 1:
        return RunSets(own, own, valid.note, scale)
    notes, others = [valid.note], []
    for path in files.paths[1:]:
        other = read_valid_runs(path)
        names = sorted(other.metrics)
        trials, _ = _express(other, files.target, Objective.parse("mean(*):min", names), predictor)
        others.append(match_domains(own, trials, path.name, cfg.reuse_min_kept or 0.0))
        notes.append(other.note)
    trials, borrowed = borrow(own, others, wanted, predictor, cfg.seed)
    note = "; ".join([*filter(None, notes), *map(str, borrowed)])
    return RunSets(own, trials, note, scale)


def _express(
    valid: ValidRuns, target: Target, objective: Objective, predictor: Predictor
) -> tuple[Trials, ScaleSummary | None]:
    """Express the runs of one file at the target scale; runs of one scale stay as they are."""
    if not valid.runs:
        return valid.to_trials(), None
    params_R, tokens_R = (_read_scales(valid, column) for column in (PARAMS, TOKENS))
    for column, values_R, asked in (
        (PARAMS, params_R, target.params),
        (TOKENS, tokens_R, target.tokens),
    ):
        if asked is not None and values_R is None:
            raise InputError(
                f"--{column} {asked:g} needs a column {column!r} in {valid.path}, with the value "
                "of every run"
            )
    params_R = np.ones(len(valid.runs)) if params_R is None else params_R
    tokens_R = np.ones(len(valid.runs)) if tokens_R is None else tokens_R
    params = target.params or float(params_R.max())
    tokens = target.tokens or float(tokens_R[params_R == params_R.max()].max())
    is_one_scale = not varies(np.append(params_R, params)) and not varies(
        np.append(tokens_R, tokens)
    )
    if is_one_scale or len(valid.runs) < MIN_MIXTURES:
        return valid.to_trials(), None
    return _express_rows(valid, params_R, tokens_R, Scale(params, tokens), (objective, predictor))


def _read_scales(valid: ValidRuns, column: str) -> Array | None:
    """Return params or tokens of every run; None if no run has any."""
    values = [run.params if column == PARAMS else run.tokens for run in valid.runs]
    n_missing = values.count(None)
    if n_missing == len(values):
        return None
    if n_missing:
        raise InputError(
            f"{valid.path}: column {column!r} is empty in {n_missing} of {len(values)} runs; fill "
            "it in every row, or remove the column"
        )
    return np.array(values, dtype=np.float64)


def _express_rows(
    valid: ValidRuns,
    params_R: Array,
    tokens_R: Array,
    target: Scale,
    judge: tuple[Objective, Predictor],
) -> tuple[Trials, ScaleSummary]:
    objective, predictor = judge
    names = sorted(valid.metrics)
    columns = [valid.metrics.index(name) for name in names]
    run_names = [(run.name, run.seed) for run in valid.runs]
    runs = ScaledRuns(
        np.array([normalize(run.weights) for run in valid.runs]),
        np.array([run.metrics for run in valid.runs])[:, columns],
        params_R,
        tokens_R,
        np.array([run_names.index(key) for key in run_names], dtype=np.int64),
    )
    expressed = express_at(runs, target, predictor)
    seeds = [valid.runs[row].seed or 0 for row in expressed.first_T]
    level_std = float(np.abs(objective.weights_Q) @ expressed.level_std_Q)
    params_N, counts_N = np.unique(expressed.params_T, return_counts=True)
    summary = ScaleSummary(
        dataclasses.replace(target, params=_snap(target.params, params_N)),
        len(valid.runs),
        len(seeds),
        tuple(zip(params_N.tolist(), counts_N.tolist(), strict=True)),
        level_std if np.isfinite(level_std) else None,
        measure_dependence(expressed, objective.weights_Q, predictor),
    )
    return _build_trials(valid.domains, names, expressed, seeds), summary


def _build_trials(
    domains: tuple[str, ...], metrics: Sequence[str], expressed: ExpressedTrials, seeds: list[int]
) -> Trials:
    """Build the trials of a search from runs at the target scale."""
    n = len(seeds)
    trials = Trials(
        domains,
        expressed.weights_TK,
        tuple(metrics),
        expressed.metrics_TQ,
        np.zeros(n, dtype=np.int64),
        (PROPOSAL,) * n,
        np.array(seeds, dtype=np.int64),
        np.zeros(n),
    )
    return trials.concatenate([])  # sorted


def _snap(params: float, params_N: Array) -> float:
    """Return the measured size that is the same as the target's, else the target's."""
    nearest = float(params_N[np.abs(np.log(params_N / params)).argmin()])
    return params if varies(np.array([params, nearest])) else nearest

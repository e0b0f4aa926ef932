"""Read the runs of a CSV command: own runs, runs of other sets, runs of several scales.

The own runs are those of the first file. Every further file is another set of runs.

Axes: R rows (checkpoints of runs), Q metrics.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from climb.config import build
from climb.config.sections import SearchConfig
from climb.errors import InputError
from climb.objective import Objective
from climb.predictor import Predictor
from climb.runs.rows import PARAMS, TOKENS
from climb.runs.scales import express, read_scales
from climb.runs.table import ValidRuns, read_valid_runs
from climb.search.borrow import BorrowedSet, borrow, match_domains
from climb.search.scale import MIN_LEVEL_RUNS, ExpressedTrials, is_size
from climb.search.scale_curve import UNKNOWN, Scale
from climb.search.scale_dependence import Dependence, measure_dependence
from climb.search.signal_to_noise import build_objective
from climb.search.trials import Trials

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Target:
    """The scale to predict for.

    If `params` is None, the model size is the largest one of the own runs. If `tokens` is None, the
    number of tokens is the largest one that a run of this model size read.
    """

    params: float | None = None
    tokens: float | None = None


LARGEST = Target()


@dataclass(frozen=True)
class RunFiles:
    """The files that a command reads, and the scale to which it converts their metrics."""

    paths: Sequence[Path]
    """The file of the own runs, then files of other sets."""

    target: Target = LARGEST
    conf: Sequence[Path] = ()
    """Files of the configuration."""

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All files; no output may overwrite one of them."""
        return (*self.paths, *self.conf)


@dataclass(frozen=True)
class ScaleSummary:
    """What a command did with runs of several scales."""

    target: Scale
    n_rows: int
    n_trials: int
    sizes: tuple[tuple[float, int], ...]
    """Each model size with its number of trials."""

    level_stds: dict[str, float | None]
    """Metric, or `score` for the objective -> standard deviation of its level, the part of its
    value that is the same for all mixtures; None: unknown."""

    dependence: tuple[Dependence, ...]

    @property
    def n_at_size(self) -> int:
        """Number of trials of the target's model size."""
        return dict(self.sizes).get(self.target.params, 0)

    @property
    def has_level(self) -> bool:
        """Whether the level of the score at the target's model size is known.

        This needs at least `MIN_LEVEL_RUNS` trials of this size, and a standard deviation of the
        level.
        """
        return self.n_at_size >= MIN_LEVEL_RUNS and self.level_stds["score"] is not None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; an unknown target size or token count is null."""
        fields = dataclasses.asdict(self)
        known = {k: None if v == UNKNOWN else v for k, v in fields["target"].items()}
        return fields | {"target": known}


@dataclass(frozen=True, eq=False)
class RunSets:
    """The runs that a command learns from."""

    own: Trials
    trials: Trials
    """Own runs, and runs of those other sets that help to predict them (`climb.search.borrow`)."""

    note: str
    """A note on ignored rows and on other sets; empty if there are none."""

    scale: ScaleSummary | None
    """None if all own runs have the target's scale, or if they are too few."""


def read_run_sets(
    files: RunFiles, objective: str, cfg: SearchConfig, needed: str | None = None
) -> RunSets:
    """Read the own runs, and add the runs of each other file that helps to predict own runs.

    Args:
        files: own runs and other sets.
        objective: defines the score.
        cfg: predictor, seed, `reuse_min_kept`, and how the objective is reweighted.
        needed: the objective that decides whether another set is used. The set is used only if it
            improves the predictions of this objective and its metrics. None: `objective`.

    Raises:
        InputError: a file cannot be used.
        SearchError: the own runs are too few to test other sets or to reweight the objective; or
            another set has no domain of the own runs, or lacks a metric of the own runs.
    """
    valid = read_valid_runs(files.paths[0])
    predictor: Predictor = build(cfg.predictor, Predictor)
    target = _resolve(valid, files.target)
    own, expressed = express(valid, target, predictor)
    scale = None
    if expressed is not None:
        wanted = build_objective(objective, own, cfg)
        scale = _summarize(own.metric_names, expressed, wanted, predictor)
    if len(files.paths) == 1:
        return RunSets(own, own, valid.note, scale)
    others, notes = _read_others(files, own, target, predictor, cfg)
    judged_by = (
        Objective.parse(needed, own.metric_names)
        if needed
        else build_objective(objective, own, cfg)
    )
    trials, borrowed = borrow(own, others, judged_by, predictor, cfg.seed)
    note = "; ".join([*filter(None, [valid.note, *notes]), *map(str, borrowed)])
    return RunSets(own, trials, note, scale)


def _read_others(
    files: RunFiles, own: Trials, target: Scale, predictor: Predictor, cfg: SearchConfig
) -> tuple[list[tuple[Trials, BorrowedSet]], list[str]]:
    """Read the other sets, and map them to the domains and metrics of the own runs, by name.

    Returns:
        The trials and the record of each set, and for each set a note on the ignored rows and
        columns of its file.
    """
    if cfg.reuse_min_kept is None:
        raise InputError(
            f"--runs names {len(files.paths)} files, but search.reuse_min_kept is null, so only "
            "the runs of the first file are used; leave the other files out, or set "
            "search.reuse_min_kept=0.5, for example"
        )
    others, notes = [], []
    for path in files.paths[1:]:
        other = read_valid_runs(path)
        trials, _ = express(other, target, predictor)
        others.append(match_domains(own, trials, path.name, cfg.reuse_min_kept))
        notes.append(other.note)
    return others, notes


def _resolve(valid: ValidRuns, target: Target) -> Scale:
    """Return the scale to predict for: the requested one, else that of the largest own model."""
    params_R, tokens_R = (read_scales(valid, column) for column in (PARAMS, TOKENS))
    for column, values_R, asked in (
        (PARAMS, params_R, target.params),
        (TOKENS, tokens_R, target.tokens),
    ):
        if asked is not None and values_R is None:
            raise InputError(
                f"--{column} {asked:g} needs a column {column!r} in {valid.path}, with the value "
                "of every run"
            )
    if not valid.runs:
        return Scale(UNKNOWN, UNKNOWN)
    params = target.params or (UNKNOWN if params_R is None else float(params_R.max()))
    if tokens_R is None:
        return Scale(params, UNKNOWN)
    own_R = tokens_R if params_R is None else tokens_R[is_size(params_R, params)]
    return Scale(params, target.tokens or float((own_R if len(own_R) else tokens_R).max()))


def _summarize(
    metrics: Sequence[str], expressed: ExpressedTrials, objective: Objective, predictor: Predictor
) -> ScaleSummary:
    std_Q = expressed.level_std_Q
    used = list(objective.weighted_columns)
    score_std = float(np.abs(objective.weights_Q[used]) @ std_Q[used])
    stds = dict(zip((*metrics, "score"), [*std_Q.tolist(), score_std], strict=True))
    params_N, counts_N = np.unique(expressed.params_T, return_counts=True)
    same = params_N[is_size(params_N, expressed.target.params)]
    target = expressed.target
    return ScaleSummary(
        dataclasses.replace(target, params=float(same[0]) if len(same) else target.params),
        len(expressed.rows.trial_R),
        len(expressed.first_T),
        tuple(zip(params_N.tolist(), counts_N.tolist(), strict=True)),
        {name: std if np.isfinite(std) else None for name, std in stds.items()},
        measure_dependence(expressed, objective.weights_Q, predictor),
    )

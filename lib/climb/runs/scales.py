"""Express runs at the target scale: convert their metrics to one model size and token count.

A scale is a model size and a number of training tokens. The runs of one file may differ in both.
Their metrics are converted to those that runs of the target's size and tokens would have. The own
runs are those of the first file that the user names. The runs of each further file are converted
too, and later shifted to the level of the own runs (`climb.search.borrow`).

Axes: R rows (checkpoints of runs), T trials, N model sizes, K domains, Q metrics.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from climb.errors import InputError
from climb.mixture import SAME_DECIMALS
from climb.predictor import Predictor
from climb.runs.rows import PARAMS, RUN, TOKENS, Run, format_run
from climb.runs.sheet import normalize
from climb.runs.table import ValidRuns
from climb.search.scale import ExpressedTrials, ScaledRuns, express_at, group_sizes
from climb.search.scale_curve import UNKNOWN, Scale, varies
from climb.search.surrogate import MIN_MIXTURES
from climb.search.trials import PROPOSAL, Trials

Array = NDArray[np.float64]

_PER_SIZE, _PER_LOG_TOKENS = 1e-3, 0.15
"""Trials get a `scale_distance`, so that trials far from the target's scale have less weight. It is
the sum of two parts:

* `_PER_SIZE` times the rank of the trial's model size. The size nearest to the target has rank 0.
  This part only ensures that trials of different sizes are not replicates.
* `_PER_LOG_TOKENS` times d - min(d). Here d is the distance of the trial's nearest checkpoint from
  the target's tokens, in log tokens, and min(d) is the smallest d of all trials.

The fit of a predictor assumes an error in each metric of a trial: `STD_PER_TV_DISTANCE` times the
trial's `scale_distance`. The unit is the standard deviation of the metric over mixtures. So if
d - min(d) is 1, the second part adds an assumed error of 0.15 * 2 = 0.3 standard deviations."""

_SAME_TOKENS = 0.1
"""Trials count as equally long if their tokens differ by at most this share. So two runs of one
mixture are replicates even if they end a few steps apart."""


def express(
    valid: ValidRuns, target: Scale, predictor: Predictor
) -> tuple[Trials, ExpressedTrials | None]:
    """Express the runs of one file at the target scale.

    If all runs have the target's scale, or if they are too few, they stay as they are.

    Raises:
        InputError: some rows lack their size or tokens, or it is unknown which rows are checkpoints
            of one run.
    """
    n, valid = len(valid.runs), _sort_runs(valid)
    params_R, tokens_R = (read_scales(valid, column) for column in (PARAMS, TOKENS))
    # Model sizes (or tokens) are ignored if this file or the file of the own runs lacks them. Then
    # the metrics of the two files may differ in level, but this difference is removed later.
    if params_R is None or target.params == UNKNOWN:
        params_R, target = np.full(n, UNKNOWN), dataclasses.replace(target, params=UNKNOWN)
    if tokens_R is None or target.tokens == UNKNOWN:
        tokens_R, target = np.full(n, UNKNOWN), dataclasses.replace(target, tokens=UNKNOWN)
    is_one_scale = not varies(np.append(params_R, target.params))
    is_one_scale &= not varies(np.append(tokens_R, target.tokens))
    if is_one_scale or n < MIN_MIXTURES:
        return _add_tokens(valid), None
    _check_checkpoints(valid, params_R, tokens_R)
    # Domains and metrics are sorted by name: the order of columns must not change a result.
    domains, metrics = sorted(valid.domains), sorted(valid.metrics)
    by_domain = [valid.domains.index(name) for name in domains]
    by_metric = [valid.metrics.index(name) for name in metrics]
    number: dict[tuple[str, int | None], int] = {}
    runs = ScaledRuns(
        np.array([normalize(run.weights) for run in valid.runs])[:, by_domain],
        np.array([run.metrics for run in valid.runs])[:, by_metric],
        params_R,
        tokens_R,
        np.array([number.setdefault((run.name, run.seed), len(number)) for run in valid.runs]),
    )
    expressed = express_at(runs, target, predictor)
    seeds = [valid.runs[row].seed or 0 for row in expressed.first_T]
    trials = _build_trials(tuple(domains), tuple(metrics), expressed, seeds)
    return trials.reorder_domains(np.argsort(by_domain)), expressed


def _sort_runs(valid: ValidRuns) -> ValidRuns:
    """Sort the runs, because the order of rows must not change a result."""
    domains = sorted(range(len(valid.domains)), key=valid.domains.__getitem__)
    metrics = sorted(range(len(valid.metrics)), key=valid.metrics.__getitem__)

    def place(run: Run) -> tuple[object, ...]:
        weights = normalize(run.weights)
        return (
            *(float(weights[k]) for k in domains),
            *(run.params or 0.0, run.tokens or 0.0, run.seed or 0, run.name),
            *(run.metrics[q] for q in metrics),
        )

    return dataclasses.replace(valid, runs=tuple(sorted(valid.runs, key=place)))


def read_scales(valid: ValidRuns, column: str) -> Array | None:
    """Return params or tokens of every run; None if no run has any.

    Raises:
        InputError: some runs have a value and others do not.
    """
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


def _add_tokens(valid: ValidRuns) -> Trials:
    """Return the runs as trials with unchanged metrics.

    If the file has tokens, every trial gets the median number of tokens of all runs.
    """
    trials, tokens_R = valid.to_trials(), read_scales(valid, TOKENS)
    if tokens_R is None or not len(trials):
        return trials
    return dataclasses.replace(trials, tokens_T=np.full(len(trials), np.median(tokens_R)))


def _check_checkpoints(valid: ValidRuns, params_R: Array, tokens_R: Array) -> None:
    """Check that it is known which rows are checkpoints of one run.

    Raises:
        InputError: several runs of one mixture have checkpoints, and neither names nor seeds tell
            these runs apart.
    """
    counts: dict[object, Counter[float]] = {}
    names: dict[object, str] = {}
    for run, size, tokens in zip(valid.runs, group_sizes(params_R)[0], tokens_R, strict=True):
        mixture = np.round(normalize(run.weights), SAME_DECIMALS)
        key = (run.name, run.seed, int(size), *mixture.tolist())
        counts.setdefault(key, Counter())[float(tokens)] += 1
        names[key] = run.name
    mixed = [key for key, n in counts.items() if len(n) > 1 and max(n.values()) > 1]
    if mixed:
        first, (tokens, n_rows) = mixed[0], counts[mixed[0]].most_common(1)[0]
        raise InputError(
            f"{valid.path}: it is unknown which rows are checkpoints of one run: for {len(mixed)} "
            f"mixtures, several rows have the same run, seed, params and tokens (first: {n_rows} "
            f"rows of {tokens:g} tokens{format_run(names[first])}), like several runs, and other "
            "rows differ from these only in tokens, like checkpoints; give every run its own name "
            f"in column {RUN!r}"
        )


def _build_trials(
    domains: tuple[str, ...],
    metrics: tuple[str, ...],
    expressed: ExpressedTrials,
    seeds: Sequence[int],
) -> Trials:
    """Build the trials of a search; `scale_distance` states how far they are from the target.

    So trials of two sizes are not replicates, and trials that ended far from the target's tokens
    get less weight.
    """
    n = len(seeds)
    distance_T, tokens_T = _group_tokens(expressed)
    has_tokens = expressed.target.tokens != UNKNOWN
    return Trials(
        domains,
        expressed.weights_TK,
        metrics,
        expressed.metrics_TQ,
        np.zeros(n, dtype=np.int64),
        (PROPOSAL,) * n,
        np.array(seeds, dtype=np.int64),
        np.zeros(n),
        tokens_T if has_tokens else None,
        _PER_SIZE * _rank_sizes(expressed) + _PER_LOG_TOKENS * (distance_T - distance_T.min()),
    )


def _rank_sizes(expressed: ExpressedTrials) -> Array:
    """Return the rank of every trial's model size, shape (T,).

    The size nearest to the target has rank 0. If this size has too few trials for a fit, the size
    with the most trials has rank 0 instead. The other sizes are ranked by their distance from the
    size of rank 0: the number of steps between the two in the sorted list of sizes.
    """
    params_N, size_T, counts_N = np.unique(
        expressed.params_T, return_inverse=True, return_counts=True
    )
    nearest = int(np.abs(np.log(params_N / expressed.target.params)).argmin())
    if counts_N[nearest] < MIN_MIXTURES:
        nearest = int(counts_N.argmax())
    order_N = np.argsort(np.abs(np.arange(len(params_N)) - nearest), kind="stable")
    return np.argsort(order_N).astype(np.float64)[size_T.reshape(-1)]


def _group_tokens(expressed: ExpressedTrials) -> tuple[Array, Array]:
    """Return the distance from the target's tokens, and the tokens, of every trial: both (T,).

    Trials with nearly the same number of tokens (see `_SAME_TOKENS`) get the same distance and the
    same number of tokens, so that they can be replicates.
    """
    distance_T, tokens_T = expressed.distance_T.copy(), expressed.tokens_T.copy()
    todo_T = np.ones(len(tokens_T), dtype=np.bool_)
    while todo_T.any():
        fewest = expressed.tokens_T[todo_T].min()
        near_T = todo_T & (expressed.tokens_T <= (1.0 + _SAME_TOKENS) * fewest)
        distance_T[near_T] = expressed.distance_T[near_T].min()
        tokens_T[near_T] = np.median(expressed.tokens_T[near_T])
        todo_T &= ~near_T
    return distance_T, tokens_T

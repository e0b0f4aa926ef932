"""Runs that somebody else made, as CSV: predict others, propose the next, recommend the best.

Axes: T runs, M mixtures, K domains, Q metrics.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from climb import advice
from climb.config import build
from climb.errors import InputError
from climb.limits import Limits
from climb.mixture import FeasibleSet
from climb.objective import Objective
from climb.predictor import Predictor
from climb.rows import read_runs
from climb.search.answer import recommend as best_mixture
from climb.search.calibration import Calibrated
from climb.search.pareto import pareto
from climb.search.rounds import propose as next_mixtures
from climb.search.searcher import Problem
from climb.search.signal import weighed
from climb.search.surrogate import FEWEST, Surrogate
from climb.search.trials import Trials
from climb.sheet import (
    DRIFT,
    METRIC,
    WEIGHT,
    Sheet,
    check_places,
    write_numbers,
    write_rows,
    write_text,
)

if TYPE_CHECKING:
    from climb.config.sections import SearchConfig

Array = NDArray[np.float64]

FRONT = 16
"""Weightings of the metrics that a Pareto front is made of."""


def read_prior(path: Path, domains: Sequence[str], cfg: SearchConfig) -> FeasibleSet:
    """Read PRIOR.csv (domain,tokens) into the set that mixtures may come from.

    Numbers that sum to 1 are shares, not tokens: then nothing is known about epochs, and only the
    limits of weights hold.

    Raises:
        InputError: missing columns, other domains than the runs', or bad numbers.
        MixtureError: limits that no mixture can keep.
    """
    sheet = Sheet.read(path)
    tokens = sheet.numbers(["tokens"])[:, 0]
    if "domain" not in sheet.columns:
        raise InputError(f"{path} has no column 'domain'; it has {', '.join(sheet.columns)}")
    place = sheet.columns.index("domain")
    names = [row[place].strip() for row in sheet.rows]
    if sorted(names) != sorted(domains):
        missing = sorted(set(domains) - set(names))
        more = sorted((Counter(names) - Counter(domains)).elements())
        raise InputError(
            f"{path}: its domains are not those of the runs (missing: "
            f"{', '.join(missing) or 'none'}; unknown or twice: {', '.join(more) or 'none'})"
        )
    by_name = dict(zip(names, tokens.tolist(), strict=True))
    tokens_K = np.array([by_name[domain] for domain in domains])
    shares = abs(float(tokens_K.sum()) - 1.0) <= DRIFT
    limits = Limits.of(cfg)
    space = FeasibleSet.of(domains, tokens_K, limits.without_epochs() if shares else limits)
    unknown_K = np.full(len(domains), np.nan)
    return dataclasses.replace(space, tokens_K=unknown_K) if shares else space


def predict(runs: Path, mixtures: Path, out: Path, cfg: SearchConfig, objective: str) -> str:
    """Fit on runs, and write what one run of each other mixture would measure.

    P.csv has the row number, mean and standard deviation of every metric and of the score. The
    deviations are those of a new run: prediction error as held-out runs show it, and seed noise.

    Returns:
        What was done, in lines to print.

    Raises:
        ClimbError: a file or objective that cannot be used.
    """
    check_places([runs, mixtures], [out])
    trials, remark = read_runs(runs)
    weights_MK = Sheet.read(mixtures).mixtures(trials.domains)
    wanted = Objective.parse(objective, trials.metric_names)
    # Every metric is predicted, whatever the objective weighs.
    every = Objective.parse("mean(*):min", trials.metric_names)
    predictor: Predictor = build(cfg.predictor, Predictor)
    order_K = np.argsort(np.array(trials.domains, dtype=object))
    surrogate = Surrogate.fit(trials.reordered(order_K), every, predictor)
    held = surrogate.held_out(predictor, cfg.seed)
    means_MQ, stds_MQ = surrogate.metrics(weights_MK[:, order_K])
    header, columns = ["row"], [np.arange(1.0, len(weights_MK) + 1.0)]
    ranks = {}
    for name in (*trials.metric_names, "score"):
        view = wanted if name == "score" else Objective.single(name, trials.metric_names)
        judged = Calibrated.of(surrogate, held, view, trials)
        title = name if name == "score" else f"metric.{name}"
        header += [f"{title}.mean", f"{title}.std"]
        columns += judged.new_run(means_MQ, stds_MQ)
        ranks[name] = judged.calibration.rank
    write_numbers(out, header, np.column_stack(columns))
    return advice.predicted(len(weights_MK), len(trials), ranks, objective, (remark,), out)


def propose(runs: Path, prior: Path, out: Path, n: int, cfg: SearchConfig, objective: str) -> str:
    """Write the n mixtures to train next; before there are enough runs to learn from, spread ones.

    Returns:
        What was done, in lines to print.

    Raises:
        ClimbError: a file, objective or limit that cannot be used.
    """
    check_places([runs, prior], [out])
    trials, remark = read_runs(runs)
    space = read_prior(prior, trials.domains, cfg)
    wanted = Objective.parse(objective, trials.metric_names)
    learned = len(trials.repeats().counts_D) >= FEWEST
    # The runs are of one round, and the mixtures wanted of the next; that is the first as long as
    # there is nothing to learn from.
    rounds = (len(trials), n) if learned else (n,)
    if learned:
        wanted = weighed(wanted, trials, cfg)
    else:
        trials = dataclasses.replace(trials, rounds_T=trials.rounds_T - 1)
    problem = Problem.of(space, wanted, cfg.model_copy(update={"trials_per_round": rounds}))
    weights_MK = next_mixtures(trials, len(rounds) - 1, problem)
    write_numbers(out, [WEIGHT + domain for domain in space.domains], weights_MK)
    searcher = type(problem.searcher).__name__
    remarks = (remark, _no_epochs(space, prior))
    return advice.proposed(n, len(trials), learned, searcher, remarks, out)


def recommend(
    runs: Path,
    prior: Path,
    out: Path,
    cfg: SearchConfig,
    objective: str,
    front: Path | None = None,
) -> str:
    """Write the best mixture (CSV), and how much better and how sure (JSON beside it).

    With `front`, also mixtures none of which is predicted better than another on every metric
    (CSV: weights, and the mean of each metric).

    Returns:
        Advice, in lines to print.

    Raises:
        ClimbError: a file, objective or limit that cannot be used.
    """
    beside = out.with_suffix(".json")
    if beside == out:
        raise InputError(f"--out is {out}; the JSON file goes beside it, so name a .csv file")
    check_places([runs, prior], [out, beside, *([front] if front else [])])
    trials, remark = read_runs(runs)
    space = read_prior(prior, trials.domains, cfg)
    wanted = weighed(Objective.parse(objective, trials.metric_names), trials, cfg)
    problem = Problem.of(space, wanted, cfg)
    answer = best_mixture(trials, problem)
    written = [out, beside]
    if front is not None:
        write_front(trials, problem, front)
        written.append(front)
    epochs_K = space.epochs(answer.weights_K, cfg.target_tokens)
    _write_mixture(answer.weights_K, epochs_K, space, out)
    text = json.dumps(advice.as_json(answer, objective), indent=2, allow_nan=False)
    write_text(beside, text + "\n")
    remarks = (remark, _no_epochs(space, prior))
    notes = advice.Notes(objective, cfg.min_signal, remarks, tuple(written))
    return advice.recommended(answer, space, epochs_K, notes)


def _no_epochs(space: FeasibleSet, prior: Path) -> str:
    """A remark where limits of epochs could not be applied."""
    if not np.isnan(space.tokens_K).any():
        return ""
    return f"{prior} holds shares, not tokens: epochs are not known, so no limit of epochs holds"


def _write_mixture(weights_K: Array, epochs_K: Array, space: FeasibleSet, out: Path) -> None:
    """Write BEST.csv; without tokens there are no epochs, and their cells stay empty."""
    columns = (weights_K.tolist(), space.natural_K.tolist(), epochs_K.tolist())
    rows = [
        ["" if value != value else value for value in row]
        for row in zip(space.domains, *columns, strict=True)
    ]
    write_rows(out, ["domain", "weight", "natural", "epochs"], rows)


def write_front(trials: Trials, problem: Problem, out: Path) -> None:
    """Write the predicted Pareto front: weight.<domain>, metric.<name>, best by the score first."""
    weights_PK, means_PQ = pareto(trials, FRONT, problem)
    wanted = problem.wanted
    names = [METRIC + wanted.metric_names[q] for q in wanted.used]
    header = [*(WEIGHT + domain for domain in problem.space.domains), *names]
    write_numbers(out, header, np.hstack([weights_PK, means_PQ]))

"""Runs of another set of domains in addition to own runs, on Olmix's published swarms.

    python benchmarks/bench.py borrow

The swarms are `full` (512 runs, 64 domains) and `update` (64 runs, 22 domains); both have 110
metrics. `update` has the domains `s2pdf:...` of `full` under other names, and one domain
`existing`: a mixture of all other domains of `full`. The weights of this mixture are not in the
published files; here they are token shares. Each swarm in turn provides the own runs. Runs of the
other swarm are matched by name and added as `climb predict --runs OWN --runs OTHER` does. The
default predictor is fitted with and without them, and predicts further own runs.

Axes: M test runs, Q metrics, J domains of the other set, K own domains.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
from dataclasses import dataclass

import numpy as np
import olmix
from accuracy import DEFAULT, rank_all
from numpy.typing import NDArray
from section import Bar, Section, Table, run_section

from climb.config import build, load
from climb.objective import Objective
from climb.predictor import Predictor
from climb.search import Surrogate, Trials
from climb.search.borrow import borrow, match_domains

SPLITS, QUICK_SPLITS = 5, 1
GAIN = 0.02
"""Smallest gain in mean Spearman of single metrics, with 64 own and 64 other runs."""

TITLES = ("Spearman of the score", "mean Spearman of single metrics")


@dataclass(frozen=True)
class Case:
    """Own swarm, numbers of own and of other runs."""

    own: str
    n_own: int
    n_other: int

    @property
    def other(self) -> str:
        """The other swarm."""
        return "update" if self.own == "full" else "full"

    def __str__(self) -> str:
        """Return the name in tables."""
        return f"{self.n_own} runs of {self.own}, {self.n_other} of {self.other}"


CASES = (Case("full", 64, 64), Case("full", 128, 64), Case("update", 32, 64))


@dataclass(frozen=True)
class Outcome:
    """Figures of `TITLES` without and with the other runs, and whether they were used."""

    alone: tuple[float, float]
    together: tuple[float, float]
    is_used: bool


def load_swarms() -> dict[str, dict[str, Trials]]:
    """Load both swarms in the domains of each of them: domains -> swarm -> runs."""
    full, update = olmix.load_swarm(), olmix.load_update()
    prefix = "s2pdf:"
    renamed = [name.replace("s2pdfv1:", prefix) for name in update.domains]
    shares = olmix.read_token_shares()
    old = [name for name in full.domains if not name.startswith(prefix)]
    spread_JK = np.zeros((len(renamed), len(full.domains)))
    for j, name in enumerate(renamed):
        parts = old if name == "existing" else [name]
        for part in parts:
            share = shares[part] / sum(shares[p] for p in parts)
            spread_JK[j, full.domains.index(part)] = share
    merged_KJ = (spread_JK > 0.0).T.astype(np.float64)
    in_own = dataclasses.replace(update, domains=tuple(renamed))
    return {
        "full": {"full": full, "update": change_domains(update, full.domains, spread_JK)},
        "update": {"update": in_own, "full": change_domains(full, tuple(renamed), merged_KJ)},
    }


def change_domains(runs: Trials, domains: tuple[str, ...], map_KJ: NDArray[np.float64]) -> Trials:
    """The runs with the weights of other domains."""
    return dataclasses.replace(runs, domains=domains, weights_TK=runs.weights_TK @ map_KJ)


def draw(runs: Trials, n: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Mark n random runs."""
    return np.isin(np.arange(len(runs)), random.permutation(len(runs))[:n])


def measure_case(swarms: dict[str, dict[str, Trials]], case: Case, seed: int) -> Outcome:
    """Fit to own runs, and to own and other runs; predict other own runs."""
    random = np.random.default_rng([seed, case.n_own])
    runs = swarms[case.own]
    fitted_T = draw(runs[case.own], case.n_own, random)
    own, unseen = runs[case.own].select(fitted_T), runs[case.own].select(~fitted_T)
    others = runs[case.other]
    others = others.select(draw(others, case.n_other, random))
    objective = Objective.parse("mean(*):min", own.metric_names)
    predictor: Predictor = build(DEFAULT, Predictor)
    matched = match_domains(own, others, case.other, load().search.reuse_min_kept or 0.0)
    combined, (borrowed,) = borrow(own, [matched], objective, predictor, seed)
    alone, together = (rank(trials, unseen, objective, predictor) for trials in (own, combined))
    return Outcome(alone, together, borrowed.noise is not None)


def rank(
    trials: Trials, unseen: Trials, objective: Objective, predictor: Predictor
) -> tuple[float, float]:
    """Figures of `TITLES` of a fit."""
    means_MQ = Surrogate.fit(trials, objective, predictor).predict_means(unseen.weights_TK)
    return rank_all(objective, means_MQ, unseen.metrics_TQ)


def measure(args: argparse.Namespace) -> Section:
    swarms, splits = load_swarms(), QUICK_SPLITS if args.quick else SPLITS
    cases = CASES[-1:] if args.quick else CASES
    tasks = [(swarms, case, seed) for case in cases for seed in range(splits)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        outcomes = pool.starmap(measure_case, tasks, chunksize=1)
    rows, bars = [], []
    for number, case in enumerate(cases):
        own = outcomes[number * splits : (number + 1) * splits]
        alone, together = (np.array([getattr(o, x) for o in own]) for x in ("alone", "together"))
        change = together - alone
        used = sum(o.is_used for o in own)
        cells = [
            f"{a:.3f} -> {b:.3f}" for a, b in zip(alone.mean(0), together.mean(0), strict=True)
        ]
        rows.append((str(case), f"{used} of {splits}", *cells))
        for title, values in zip(TITLES, change.T, strict=True):
            least = float(values.min())
            bars.append(Bar(f"smallest change of the {title}, {case}", least, at_least=0.0))
        if case == CASES[0]:
            title = f"change of the {TITLES[1]}, {case}"
            bars.append(Bar(title, float(change[:, 1].mean()), at_least=GAIN))
    return Section(
        "borrow",
        "Search: runs of another set of domains in addition to own runs",
        f"{splits} draws; mean figures without -> with the other runs.",
        (Table(("runs", "other set used", *TITLES), tuple(rows)),),
        tuple(bars),
    )


if __name__ == "__main__":
    run_section(measure)

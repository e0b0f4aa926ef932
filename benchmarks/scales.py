"""Runs of two model sizes with checkpoints: predictions for the larger size.

    python benchmarks/bench.py scales

Published runs of 122 M and 310 M parameters (arXiv 2507.09404; 7 domains, 8 losses, 60 mixtures, 11
checkpoints). Every checkpoint of the fitted mixtures is a row of RUNS.csv. The rows are converted
to the scale of the last checkpoint of 310 M, as the CSV commands do it, and the default predictor
predicts the other mixtures there. Error of the level: the relative error of the mean over these
mixtures, averaged over losses.

Axes: M test mixtures, Q losses, K domains.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from accuracy import DEFAULT, rank_all
from section import Bar, Section, Table, run_section
from shared import shared_data

from climb.config import build, load
from climb.objective import Objective
from climb.predictor import Predictor
from climb.runs.sets import RunFiles, Target, read_run_sets
from climb.search import Surrogate

SMALL, LARGE = 122e6, 310e6
MIXTURES, LEVEL_RUNS = 30, 3
SPLITS, QUICK_SPLITS = 10, 1
OBJECTIVE = "mean(*):min"
BOTH, OTHER_SIZE = "both sizes", f"122 M, and {LEVEL_RUNS} runs of 310 M"
FITS = {
    BOTH: (MIXTURES, MIXTURES),
    "310 M alone": (0, MIXTURES),
    OTHER_SIZE: (MIXTURES, LEVEL_RUNS),
    "122 M alone": (MIXTURES, 0),
}
"""Name -> number of fitted mixtures of 122 M and of 310 M."""

TITLES = ("Spearman of the mean", "mean Spearman of single losses", "error of the level")
RANK_BARS = {BOTH: 0.97, OTHER_SIZE: 0.94}
LEVEL_BAR = 0.01

Mixture = Losses = tuple[str, ...]


@dataclass(frozen=True)
class Checkpoints:
    """All checkpoints that have every loss, as text."""

    domains: tuple[str, ...]
    losses: tuple[str, ...]
    rows: dict[tuple[float, Mixture], dict[float, Losses]]
    """Model size and weights -> tokens -> losses."""

    @classmethod
    def load(cls) -> Checkpoints:
        """Load the published runs."""
        with next((shared_data() / "multisize").glob("*.csv")).open() as file:
            table = list(csv.DictReader(file))
        domains = tuple(name for name in table[0] if name.startswith("weight_"))
        losses = tuple(name for name in table[0] if name.endswith("_loss"))
        rows: dict[tuple[float, Mixture], dict[float, Losses]] = {}
        for cells in table:
            values = tuple(cells[name] for name in losses)
            if all(values):
                key = float(cells["model_size"]), tuple(cells[name] for name in domains)
                rows.setdefault(key, {})[float(cells["n_tokens"])] = values
        return cls(domains, losses, rows)

    @property
    def last_tokens(self) -> float:
        """Tokens of the last checkpoint of the larger size."""
        return max(t for (size, _), run in self.rows.items() if size == LARGE for t in run)

    def list_mixtures(self) -> list[Mixture]:
        """Mixtures of the larger size that have the last checkpoint."""
        last = self.last_tokens
        return sorted(w for (size, w), run in self.rows.items() if size == LARGE and last in run)

    def write(self, path: Path, chosen: dict[float, list[Mixture]]) -> None:
        """Write RUNS.csv with all checkpoints of the chosen mixtures of every size."""
        weights = [name.replace("weight_", "weight.", 1) for name in self.domains]
        metrics = [f"metric.{name}" for name in self.losses]
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["run", "params", "tokens", *weights, *metrics])
            for size, mixtures in chosen.items():
                for number, mixture in enumerate(mixtures):
                    for tokens, losses in self.rows.get((size, mixture), {}).items():
                        writer.writerow([f"{size}-{number}", size, tokens, *mixture, *losses])


def measure_split(checkpoints: Checkpoints, seed: int) -> dict[str, tuple[float, ...]]:
    """Figures of `TITLES` for every entry of `FITS`."""
    mixtures = checkpoints.list_mixtures()
    order = np.random.default_rng(seed).permutation(len(mixtures))
    shuffled = [mixtures[i] for i in order]
    fitted, unseen = shuffled[:MIXTURES], shuffled[MIXTURES:]
    return {
        name: measure_fit(checkpoints, {SMALL: fitted[:n_small], LARGE: fitted[:n_large]}, unseen)
        for name, (n_small, n_large) in FITS.items()
    }


def measure_fit(
    checkpoints: Checkpoints, chosen: dict[float, list[Mixture]], unseen: list[Mixture]
) -> tuple[float, ...]:
    """Fit to the chosen mixtures as a command does, and compare with the unseen ones."""
    last = checkpoints.last_tokens
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "runs.csv")
        checkpoints.write(path, chosen)
        runs = RunFiles([path], Target(LARGE, last))
        trials = read_run_sets(runs, OBJECTIVE, load().search).trials
    objective = Objective.parse(OBJECTIVE, trials.metric_names)
    predictor: Predictor = build(DEFAULT, Predictor)
    names = [name.removeprefix("weight_") for name in checkpoints.domains]
    by_domain = [names.index(domain) for domain in trials.domains]
    by_loss = [checkpoints.losses.index(name) for name in trials.metric_names]
    weights_MK = np.array(unseen, dtype=np.float64)[:, by_domain]
    true_MQ = np.array([checkpoints.rows[LARGE, mixture][last] for mixture in unseen], dtype=float)
    true_MQ = true_MQ[:, by_loss]
    surrogate = Surrogate.fit(trials, objective, predictor)
    found_MQ = surrogate.predict_means(weights_MK / weights_MK.sum(axis=1, keepdims=True))
    level = np.abs(found_MQ.mean(axis=0) / true_MQ.mean(axis=0) - 1.0).mean()
    return *rank_all(objective, found_MQ, true_MQ), float(level)


def measure(args: argparse.Namespace) -> Section:
    checkpoints, splits = Checkpoints.load(), QUICK_SPLITS if args.quick else SPLITS
    with multiprocessing.get_context("fork").Pool(2) as pool:
        draws = pool.map(partial(measure_split, checkpoints), range(splits), chunksize=1)
    rows, bars = [], []
    for name in FITS:
        values = np.array([draw[name] for draw in draws])
        rank, singles, level = values.mean(axis=0)
        least, most = values[:, 0].min(), values[:, 0].max()
        rows.append(
            (name, f"{rank:.3f} ({least:.3f} to {most:.3f})", f"{singles:.3f}", f"{level:.2%}")
        )
        if name in RANK_BARS:
            bars.append(Bar(f"{TITLES[0]}, {name}", float(rank), at_least=RANK_BARS[name]))
        if name == OTHER_SIZE:
            title = f"{TITLES[2]}, {name}"
            bars.append(Bar(title, float(level), at_most=LEVEL_BAR, form=".2%"))
    columns = ("runs", f"{TITLES[0]} (range)", *TITLES[1:])
    return Section(
        "scales",
        "Search: predictions for a larger model from runs of two sizes",
        f"Fits to {MIXTURES} mixtures of a size with all checkpoints, {splits} draws; the other "
        f"{len(checkpoints.list_mixtures()) - MIXTURES} mixtures are predicted at the last "
        "checkpoint of 310 M.",
        (Table(columns, tuple(rows)),),
        tuple(bars),
    )


if __name__ == "__main__":
    run_section(measure)

"""Olmix's published swarm of 512 runs, 64 domains and 110 metrics, and a surface fitted to it."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

from shared import shared_data
from surface import Surface

from climb.mixture import Constraints, FeasibleSet
from climb.runs.formats import read_olmix
from climb.runs.importer import import_runs
from climb.runs.table import read_runs
from climb.search import Trials

CAP = 15.0
"""Upper bound of a weight as a multiple of the token share, for every searcher."""

COMPONENTS = 16
"""Principal components of the metrics that the surface is fitted to."""


def load_swarm(name: str = "full_recomputation") -> Trials:
    """All runs of one swarm: bits per byte of models of 30 million parameters."""
    folder = shared_data() / "olmix"
    table = read_olmix(folder / f"{name}_ratios.csv", folder / f"{name}_metrics.csv")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "runs.csv")
        import_runs(table, out)
        return read_runs(out)[0]


def build_feasible_set(domains: tuple[str, ...]) -> FeasibleSet:
    """Token shares of the swarm's corpus, and the cap of every searcher."""
    with (shared_data() / "olmix" / "full_prior.csv").open() as file:
        shares = {row["domain"]: float(row["token_share"]) for row in csv.DictReader(file)}
    constraints = Constraints(
        target_tokens=1.0, max_epochs=None, max_share_ratio=CAP, min_weight=2e-4
    )
    return FeasibleSet.from_constraints(domains, [shares[d] for d in domains], constraints)


def fit_surface(kind: str, step: int = 1) -> Surface:
    """Fit all runs; `step` above 1 fits every step-th one, for quick tests."""
    runs = load_swarm()
    space = build_feasible_set(runs.domains)
    return Surface.fit(kind, runs, space, step, COMPONENTS)

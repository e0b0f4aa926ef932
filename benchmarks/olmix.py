"""Olmix's published swarm of 512 runs, 64 domains and 110 metrics, and a surface fitted to it."""

from __future__ import annotations

import csv

from published import build_capped_set, load_runs
from shared import shared_data
from surface import Surface

from climb.mixture import FeasibleSet
from climb.runs.formats import read_olmix
from climb.search import Trials

COMPONENTS = 16
"""Number of principal components of the metrics to which the surface is fitted."""


def load_swarm() -> Trials:
    """Load all runs; metrics are bits per byte of models with 30 million parameters."""
    folder = shared_data() / "olmix"
    ratios, metrics = (folder / f"full_recomputation_{x}.csv" for x in ("ratios", "metrics"))
    return load_runs(read_olmix(ratios, metrics))


def build_feasible_set(domains: tuple[str, ...]) -> FeasibleSet:
    """Build the feasible set of every searcher: token shares of the swarm's corpus, and the cap."""
    with (shared_data() / "olmix" / "full_prior.csv").open() as file:
        shares = {row["domain"]: float(row["token_share"]) for row in csv.DictReader(file)}
    return build_capped_set(domains, shares)


def fit_surface(step: int = 1) -> Surface:
    """Fit a blend to all runs, or to every step-th run for quick tests."""
    runs = load_swarm()
    return Surface.fit("blend", [runs], build_feasible_set(runs.domains), step, COMPONENTS)

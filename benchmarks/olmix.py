"""Olmix's published swarms with 110 metrics, and a surface fitted to the larger one."""

from __future__ import annotations

import csv

from published import build_capped_set, load_runs
from shared import shared_data
from surface import Surface

from climb.mixture import FeasibleSet
from climb.runs.formats import read_olmix
from climb.runs.rows import RunTable
from climb.search import Trials

COMPONENTS = 16
"""Number of principal components of the metrics to which the surface is fitted."""


def load_swarm() -> Trials:
    """Load 512 runs of 64 domains; metrics are bits per byte of models with 30 M parameters."""
    return load_runs(read_swarm())


def read_swarm() -> RunTable:
    """Read the rows of `load_swarm` as text."""
    return _read("full_recomputation")


def load_update() -> Trials:
    """Load 64 runs of 22 domains; one of them, `existing`, stands for an earlier mixture."""
    return load_runs(_read("full_reuse_update_5_seed_0"))


def _read(name: str) -> RunTable:
    folder = shared_data() / "olmix"
    return read_olmix(*(folder / f"{name}_{x}.csv" for x in ("ratios", "metrics")))


def read_token_shares() -> dict[str, float]:
    """Read the token shares of the 64 domains."""
    with (shared_data() / "olmix" / "full_prior.csv").open() as file:
        return {row["domain"]: float(row["token_share"]) for row in csv.DictReader(file)}


def build_feasible_set(domains: tuple[str, ...]) -> FeasibleSet:
    """Build the feasible set of every searcher: token shares of the swarm's corpus, and the cap."""
    return build_capped_set(domains, read_token_shares())


def fit_surface(step: int = 1) -> Surface:
    """Fit a blend to all runs, or to every step-th run for quick tests."""
    runs = load_swarm()
    return Surface.fit("blend", [runs], build_feasible_set(runs.domains), step, COMPONENTS)

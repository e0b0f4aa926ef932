"""RegMix's published runs, and a surface fitted to all of them."""

from __future__ import annotations

from published import build_capped_set, load_runs
from shared import shared_data
from surface import Surface

from climb.mixture import FeasibleSet
from climb.runs.formats import read_regmix, read_regmix_prior
from climb.search import Trials

TARGETS = {"mean of 13": "mean(*):min", "Pile-CC": "pile_cc:min"}
"""Objectives by the name in tables."""


def load_published(part: str) -> Trials:
    """Load the 512 training runs (`train`) or the 256 test runs (`test`)."""
    folder = shared_data() / "regmix"
    table = read_regmix(folder / f"{part}_mixture_1m.csv", folder / f"{part}_pile_loss_1m.csv")
    return load_runs(table)


def build_feasible_set(domains: tuple[str, ...]) -> FeasibleSet:
    """Build the feasible set of every searcher: token shares of `prior.csv`, and the cap."""
    return build_capped_set(domains, read_regmix_prior(shared_data() / "regmix" / "prior.csv"))


def fit_surface(kind: str, step: int = 1) -> Surface:
    """Fit a surface to all 768 published runs, or to every step-th run for quick tests."""
    parts = [load_published("train"), load_published("test")]
    return Surface.fit(kind, parts, build_feasible_set(parts[0].domains), step)

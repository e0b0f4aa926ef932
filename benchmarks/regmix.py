"""RegMix's published runs, and a surface fitted to all of them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from shared import shared_data
from surface import Surface

from climb.mixture import Constraints, FeasibleSet
from climb.runs.formats import read_regmix, read_regmix_prior
from climb.runs.importer import import_runs
from climb.runs.table import read_runs
from climb.search import Trials

CAP = 15.0
"""Upper bound of a weight as a multiple of the token share, for every searcher."""

TARGETS = {"mean of 13": "mean(*):min", "Pile-CC": "pile_cc:min"}
"""Objectives by the name in tables."""


def load_published(part: str) -> Trials:
    """The 512 runs for fitting (`train`) or the 256 for testing (`test`)."""
    folder = shared_data() / "regmix"
    table = read_regmix(folder / f"{part}_mixture_1m.csv", folder / f"{part}_pile_loss_1m.csv")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "runs.csv")
        import_runs(table, out)
        return read_runs(out)[0]


def build_feasible_set(domains: tuple[str, ...]) -> FeasibleSet:
    """Token shares of `prior.csv`, and the cap of every searcher."""
    shares = read_regmix_prior(shared_data() / "regmix" / "prior.csv")
    constraints = Constraints(
        target_tokens=1.0, max_epochs=None, max_share_ratio=CAP, min_weight=2e-4
    )
    return FeasibleSet.from_constraints(domains, [shares[d] for d in domains], constraints)


def fit_surface(kind: str, step: int = 1) -> Surface:
    """Fit all 768 published runs; `step` above 1 fits every step-th one, for quick tests."""
    train, test = load_published("train"), load_published("test")
    return Surface.fit(kind, train.concatenate([test]), build_feasible_set(train.domains), step)

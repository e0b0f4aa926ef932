"""Published runs as trials, and the feasible set that all searchers use with them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from climb.mixture import Constraints, FeasibleSet
from climb.runs.importer import import_runs
from climb.runs.rows import RunTable
from climb.runs.table import read_runs
from climb.search import Trials

CAP = 15.0
"""Upper bound of a weight as a multiple of the token share, for every searcher."""


def load_runs(table: RunTable) -> Trials:
    """Load the valid runs of a table, as `climb import` writes them."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "runs.csv")
        import_runs(table, out)
        return read_runs(out)[0]


def build_capped_set(domains: tuple[str, ...], shares: Mapping[str, float]) -> FeasibleSet:
    """Build the set of mixtures in which no weight exceeds `CAP` times the token share."""
    constraints = Constraints(
        target_tokens=1.0, max_epochs=None, max_share_ratio=CAP, min_weight=2e-4
    )
    return FeasibleSet.from_constraints(domains, [shares[d] for d in domains], constraints)

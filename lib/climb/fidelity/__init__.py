"""Fidelities: cheap estimates of what a proxy would measure on a mixture.

Axes: K domains, M mixtures, Q metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from climb.proxy import ProxyRun

Array = NDArray[np.float64]

MeasureMixtures = Callable[[Array], Array]
"""weights_MK -> metrics_MQ, all finite. The metrics of one row do not depend on the other rows."""


@dataclass(frozen=True, kw_only=True)
class FidelityInputs:
    """Inputs of a fidelity: the data and the targets of the trials."""

    domains: tuple[str, ...]
    """Names of the domains, in the order of `weights_MK`."""

    run: ProxyRun
    """A trial of the natural mixture. It names shards, tokenizer, targets and base checkpoint."""

    base_tokens: int
    """Number of tokens that the base checkpoint was trained on."""

    components: Mapping[str, str]
    """Domain -> folder of the model that was trained on this domain alone (see
    `Fidelity.component_tokens`); empty if the fidelity needs no such models."""

    sequence: int | None = None
    """Sequence length of the proxy; None if the proxy has none."""


@runtime_checkable
class Fidelity(Protocol):
    """Configuration of a cheap estimate: a frozen dataclass.

    The search uses a fidelity once, to measure `mixtures` mixtures, and interpolates between them.
    So measuring one mixture may take a second, but must take less time than a trial.
    """

    @property
    def mixtures(self) -> int:
        """Number of mixtures that are measured; at least 4."""

    @property
    def component_tokens(self) -> int:
        """Number of tokens that each component is trained on. A component is a model that continues
        the base checkpoint on one domain alone. Components are trained before mixtures are
        measured, and kept. 0: the fidelity needs no components."""

    def list_metrics(self, run: ProxyRun) -> tuple[str, ...]:
        """List the names of the estimated metrics. They are names of metrics that a trial measures
        on the targets of `run`."""

    def load(self, inputs: FidelityInputs, device: str) -> MeasureMixtures:
        """Read what is needed, and return the function that measures mixtures.

        A Spark task calls this method, on the device that a trial would use. The returned function
        gives the metrics in the order of `list_metrics`. Equal inputs give equal metrics.
        """


def limit_items(run: ProxyRun, items: int | None) -> ProxyRun:
    """Return the run with at most this many items of each target."""
    if items is None:
        return run
    limits = [items if t.limit is None else min(t.limit, items) for t in run.targets]
    targets = [replace(t, limit=n) for t, n in zip(run.targets, limits, strict=True)]
    return replace(run, targets=tuple(targets))

"""Proxies that answer at once, for tests of everything around a proxy."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from climb.errors import ComponentError, TrialError
from climb.proxy import ProxyRun, Target


@dataclass(frozen=True, kw_only=True)
class PlantedProxy:
    """A bowl over the mixtures with its bottom at a known place, and seed noise on top.

    Each target's bits per byte is `floor + slope * |weights - best|^2` plus a normal number that
    is drawn from (seed, weights, target). It reads no shard and no item, and it keeps the
    protocol's promises: equal runs give equal metrics, and a kept model is a folder.
    """

    best: Mapping[str, float] = field(default_factory=dict)
    """Domain -> weight at the bottom. Empty: drawn from the names of the run's domains."""

    floor: float = 1.0
    slope: float = 1.0
    noise: float = 0.0
    """Standard deviation of bits per byte over seeds."""

    nan_when_above: Mapping[str, float] = field(default_factory=dict)
    """Domain -> weight; a run that gives the domain more fails as training that diverged does."""

    fault: Literal["none", "nan", "exit"] = "none"
    """What becomes of every run that continues a base: nothing, divergence, or a dead process."""

    sleep_seconds: float = 0.0
    """How long a run takes, for tests that interrupt it."""

    def train(self, run: ProxyRun, device: str) -> dict[str, float]:
        """Answer for a run's mixture.

        Raises:
            TrialError: a weight is above its `nan_when_above`, or the fault is `nan`.
            ComponentError: `start` is no folder.
        """
        time.sleep(self.sleep_seconds)
        if run.start is not None and self.fault == "exit":
            os._exit(1)
        if run.start is not None and self.fault == "nan":
            raise TrialError("the loss is nan at step 1 of 1")
        for domain, limit in self.nan_when_above.items():
            weight = run.weights.get(domain, 0.0)
            if weight > limit:
                raise TrialError(
                    f"the loss is nan at step 1 of 1: {domain} has weight {weight:.4f} > {limit}"
                )
        if run.start is not None and not Path(run.start).is_dir():
            raise ComponentError(f"the run continues {run.start}, which is no folder")
        expected = self.expected(run.weights)
        metrics = {"train.loss": expected * math.log(2.0)}
        for target in run.targets:
            metrics |= _metrics(target, expected + self.noise * _normal(run, target.name))
        if run.save is not None:
            Path(run.save).mkdir(parents=True, exist_ok=True)
            (Path(run.save) / "planted.json").write_text(json.dumps(metrics, sort_keys=True))
        return metrics

    def expected(self, weights: Mapping[str, float]) -> float:
        """Bits per byte of a mixture, seed noise left out; every target has the same."""
        best = self.best or planted_best(tuple(weights))
        domains = sorted({*weights, *best})
        distance = sum((weights.get(d, 0.0) - best.get(d, 0.0)) ** 2 for d in domains)
        return self.floor + self.slope * distance


def planted_best(domains: tuple[str, ...]) -> dict[str, float]:
    """A mixture that depends on the domains' names alone; shares differ by up to ten times."""
    raw = {domain: 1.0 + 9.0 * _number(domain) / 2**64 for domain in sorted(domains)}
    total = sum(raw.values())
    return {domain: value / total for domain, value in raw.items()}


def _metrics(target: Target, bits: float) -> dict[str, float]:
    """The metrics that a real proxy reports for such a target; all of them tell the same story."""
    values = {"bpb": bits}
    if target.kind == "choices":
        values |= dict.fromkeys(("prob", "accuracy", "accuracy_norm"), 2.0**-bits)
    return {f"{target.name}.{name}": value for name, value in values.items()}


def _normal(run: ProxyRun, target: str) -> float:
    weights = json.dumps(sorted(run.weights.items()))
    return float(np.random.default_rng([run.seed, _number(weights), _number(target)]).normal())


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

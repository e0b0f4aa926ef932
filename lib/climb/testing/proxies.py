"""A proxy without training, for tests of the code around proxies."""

from __future__ import annotations

import errno
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

from climb.errors import ComponentError, ResourceError, TrialError
from climb.proxy import ProxyRun, Target


@dataclass(frozen=True, kw_only=True)
class PlantedProxy:
    """A quadratic loss with a known best mixture, plus seed noise.

    Each target's bits per byte is `floor + slope * |weights - best|^2` plus normal noise. The noise
    is a function of (seed, weights, target). A run that stops after the share s of its tokens has
    `floor + (1 - s) + s * (slope * |weights - best|^2 + noise)`. Shards and items are not read. The
    proxy keeps the contract: equal runs give equal metrics, and a saved model is a folder.
    """

    best: Mapping[str, float] = field(default_factory=dict)
    """Best mixture, domain -> weight. Empty: see `draw_best_mixture`."""

    floor: float = 1.0
    slope: float = 1.0
    noise: float = 0.0
    """Standard deviation of bits per byte over seeds."""

    nan_when_above: Mapping[str, float] = field(default_factory=dict)
    """Domain -> weight; a run with more weight on the domain fails like diverged training."""

    fault: Literal["none", "nan", "memory", "mount", "exit", "bug"] = "none"
    """Fault of every run that continues a checkpoint: none, diverged training, out of memory, a
    lost mount, a killed process, or a programming error."""

    sleep_seconds: float = 0.0
    """Duration of a run, for tests that interrupt it."""

    def train(self, run: ProxyRun, device: str) -> dict[str, float]:
        """Return the metrics of a run's mixture, and save a model if the run asks for one.

        Raises:
            TrialError: a weight is above its `nan_when_above`, or the fault is `nan`.
            ResourceError: the fault is `memory`.
            ComponentError: `start` is not a folder.
        """
        time.sleep(self.sleep_seconds)
        if run.start is not None:
            self._raise_fault()
        for domain, limit in self.nan_when_above.items():
            weight = run.weights.get(domain, 0.0)
            if weight > limit:
                raise TrialError(
                    f"the loss is nan at step 1 of 1: {domain} has weight {weight:.4f} > {limit}"
                )
        if run.start is not None and not Path(run.start).is_dir():
            raise ComponentError(f"the checkpoint folder `start` does not exist: {run.start}")
        share = 1.0 if run.stop_tokens is None else run.stop_tokens / run.n_tokens
        bpb = self.predict_bpb(run.weights, share)
        metrics = {"train.loss": bpb * math.log(2.0)}
        for target in run.targets:
            noise = share * self.noise * _draw_normal(run, target.name)
            metrics |= _make_metrics(target, bpb + noise)
        if run.save is not None:
            Path(run.save).mkdir(parents=True, exist_ok=True)
            (Path(run.save) / "planted.json").write_text(json.dumps(metrics, sort_keys=True))
        return metrics

    def _raise_fault(self) -> None:
        if self.fault == "exit":
            os._exit(1)
        if self.fault == "nan":
            raise TrialError("the loss is nan at step 1 of 1")
        if self.fault == "memory":
            raise ResourceError("PlantedProxy on cpu: out of memory")
        if self.fault == "mount":
            raise OSError(errno.EIO, "Input/output error")
        if self.fault == "bug":
            raise ZeroDivisionError("a programming error in the proxy")

    def predict_bpb(self, weights: Mapping[str, float], share: float = 1.0) -> float:
        """Return the bits per byte of a mixture without seed noise, equal for all targets.

        Args:
            weights: the mixture.
            share: share of a run's tokens after which the mixture is measured.
        """
        best = self.best or draw_best_mixture(tuple(weights))
        domains = sorted({*weights, *best})
        distance = sum((weights.get(d, 0.0) - best.get(d, 0.0)) ** 2 for d in domains)
        return self.floor + (1.0 - share) + share * self.slope * distance


def draw_best_mixture(domains: tuple[str, ...]) -> dict[str, float]:
    """Compute a mixture from hashes of the domains' names; its weights differ up to tenfold."""
    raw = {domain: 1.0 + 9.0 * _hash_text(domain) / 2**64 for domain in sorted(domains)}
    total = sum(raw.values())
    return {domain: value / total for domain, value in raw.items()}


def _make_metrics(target: Target, bpb: float) -> dict[str, float]:
    """Return the metrics that a real proxy reports for the target, all derived from bpb."""
    values = {"bpb": bpb}
    if target.kind == "choices":
        values |= dict.fromkeys(("prob", "accuracy", "accuracy_norm"), 2.0**-bpb)
    return {f"{target.name}.{name}": value for name, value in values.items()}


def _draw_normal(run: ProxyRun, target: str) -> float:
    weights = json.dumps(sorted(run.weights.items()))
    seeds = [run.seed, _hash_text(weights), _hash_text(target)]
    return float(np.random.default_rng(seeds).normal())


def _hash_text(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")

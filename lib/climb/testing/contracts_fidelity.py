"""Contract check of fidelities.

def test_my_fidelity_keeps_the_contract(tmp_path):
    check_fidelity(MyFidelity(), tmp_path)
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from climb.fidelity import Array, Fidelity, FidelityInputs
from climb.proxy import Proxy, ProxyRun
from climb.proxy.llama import LlamaProxy
from climb.proxy.metrics import list_metrics
from climb.testing.contracts import build_tiny_run
from climb.testing.rules import call_plugin, check_recipe

_PROXY = LlamaProxy(hidden=8, layers=1, heads=2, sequence=32, batch=4, learning_rate=1e-2)
_ROUNDING = 1e-6
"""Largest relative difference between measurements of one mixture in different batches."""


def check_fidelity(fidelity: Fidelity, folder: Path, proxy: Proxy = _PROXY) -> None:
    """Measure mixtures of two small generated domains.

    Args:
        fidelity: the plug-in to check.
        folder: an empty folder for files.
        proxy: used only if the fidelity needs components. The proxy then trains the base
            checkpoint, and for each domain a component (a model of this domain alone).

    Raises:
        AssertionError: the fidelity breaks a rule, which the message states.
    """
    required = "a fidelity must have mixtures, component_tokens, list_metrics(run) and load(...)"
    assert isinstance(fidelity, Fidelity), required
    check_recipe(fidelity, "fidelity")
    for name, lowest in (("mixtures", 4), ("component_tokens", 0)):
        value = getattr(fidelity, name)
        valid = isinstance(value, int) and value >= lowest
        assert valid, f"{name} must be at least {lowest}, and an integer; found {value!r}"
    inputs = build_tiny_inputs(fidelity, folder, proxy)
    names = _list_metrics(fidelity, inputs.run)

    weights_MK = np.array([[1.0, 0.0], [0.5, 0.5], [0.1, 0.9]])
    before_MK = weights_MK.copy()
    metrics_MQ = _measure(fidelity, inputs, weights_MK)
    shape = (len(weights_MK), len(names))
    assert metrics_MQ.shape == shape, f"metrics must have shape {shape}; found {metrics_MQ.shape}"
    assert np.isfinite(metrics_MQ).all(), "metrics must be finite"
    assert np.array_equal(weights_MK, before_MK), "measuring must not change the weights"
    assert (np.ptp(metrics_MQ, axis=0) > 0.0).any(), "another mixture must give other metrics"
    again_MQ = _measure(pickle.loads(pickle.dumps(fidelity)), inputs, weights_MK)
    assert np.array_equal(metrics_MQ, again_MQ), "equal inputs must give equal metrics"
    alone_MQ = np.vstack([_measure(fidelity, inputs, row[None]) for row in weights_MK[::-1]])[::-1]
    close = np.allclose(metrics_MQ, alone_MQ, rtol=_ROUNDING, atol=0.0)
    assert close, "the metrics of a mixture must not depend on the other mixtures"


def _list_metrics(fidelity: Fidelity, run: ProxyRun) -> Sequence[str]:
    """List the metrics of a fidelity, and check their names."""
    with call_plugin("list_metrics"):
        names: Any = fidelity.list_metrics(run)
    unique = isinstance(names, tuple | list) and len(set(names)) == len(names)
    assert unique, f"list_metrics must return a tuple of different names; found {names!r}"
    unknown = sorted(set(names) - set(list_metrics(run.targets)))
    assert names, "list_metrics must list at least one metric"
    assert not unknown, f"list_metrics must list metrics of a proxy; unknown: {', '.join(unknown)}"
    return list(names)


def build_tiny_inputs(fidelity: Fidelity, folder: Path, proxy: Proxy = _PROXY) -> FidelityInputs:
    """Write two domains with targets, and train the components that the fidelity needs."""
    base = build_tiny_run(folder, 2_048)
    run = dataclasses.replace(base, start=base.save, save=None)
    components: Mapping[str, str] = {}
    if fidelity.component_tokens:
        proxy.train(dataclasses.replace(base, targets=()), "cpu")
        components = {name: _train_component(proxy, run, name, folder) for name in run.weights}
    return FidelityInputs(
        domains=tuple(run.weights),
        run=run,
        base_tokens=base.n_tokens,
        components=components,
        sequence=getattr(proxy, "sequence", None),
    )


def _train_component(proxy: Proxy, run: ProxyRun, domain: str, folder: Path) -> str:
    saved = str(folder / f"component-{domain}")
    weights = {name: float(name == domain) for name in run.weights}
    alone = dataclasses.replace(run, weights=weights, save=saved, targets=())
    proxy.train(alone, "cpu")
    return saved


def _measure(fidelity: Fidelity, inputs: FidelityInputs, weights_MK: Array) -> Array:
    with call_plugin("load, or the function that it returns,"):
        return np.asarray(fidelity.load(inputs, "cpu")(weights_MK), dtype=np.float64)

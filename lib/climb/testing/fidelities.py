"""A fidelity without training, for tests of the code around fidelities.

Axes: K domains, M mixtures, Q targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from climb.errors import ComponentError
from climb.fidelity import Array, FidelityInputs, MeasureMixtures
from climb.proxy import ProxyRun
from climb.testing.proxies import PlantedProxy


@dataclass(frozen=True, kw_only=True)
class PlantedFidelity:
    """Measures the bits per byte of a `PlantedProxy` without seed noise, plus a constant."""

    best: Mapping[str, float]
    """Best mixture, domain -> weight."""

    bias: float = 0.5
    mixtures: int = 40
    component_tokens: int = 0

    def list_metrics(self, run: ProxyRun) -> tuple[str, ...]:
        """List bits per byte of every target."""
        return tuple(f"{target.name}.bpb" for target in run.targets)

    def load(self, inputs: FidelityInputs, device: str) -> MeasureMixtures:
        """Check that the components exist, and return the function that measures mixtures.

        Raises:
            ComponentError: the folder of a component does not exist.
        """
        for folder in inputs.components.values():
            if not Path(folder).is_dir():
                raise ComponentError(f"the folder of a component does not exist: {folder}")
        proxy, n_targets = PlantedProxy(best=self.best), len(inputs.run.targets)

        def measure(weights_MK: Array) -> Array:
            mixtures = [dict(zip(inputs.domains, w_K, strict=True)) for w_K in weights_MK]
            bpb_M = np.array([self.bias + proxy.predict_bpb(mixture) for mixture in mixtures])
            return np.tile(bpb_M[:, None], n_targets)

        return measure

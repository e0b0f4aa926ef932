"""Merged proxies: a weighted sum of trained models imitates a model that is trained on a mixture.

Axes: K domains, M mixtures, Q metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from climb.errors import ConfigError
from climb.fidelity import Array, FidelityInputs, MeasureMixtures, limit_items
from climb.proxy import ProxyRun
from climb.proxy.evaluate import measure
from climb.proxy.language_model import convert_errors, make_reproducible
from climb.proxy.metrics import METRICS
from climb.proxy.model_files import open_model

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MergedFidelity:
    """Metrics of a merged model: base checkpoint + sum over domains of weight * (component - base).

    The component of a domain continues the base checkpoint on this domain alone, with the recipe
    and the schedule of a trial. Once the components are trained, the model of any mixture follows
    from this sum without training.

    Source:
        DeMix (arXiv 2602.00747) merges component models to imitate mixtures. The reason for the
        number of tokens of a component is in docs/decisions/search.md.
    """

    component_tokens: int = 51_200
    """Tokens of each component."""

    sequence: int | None = None
    """Sequence length that the models are measured with; null: the proxy's sequence length."""

    items: int | None = None
    """Maximum items of each target; null: all items that a trial uses."""

    mixtures: int = 128
    """Number of mixtures that are measured."""

    needs: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers")
    """Packages that `load` imports."""

    extra: ClassVar[str] = "proxy"
    """Extra of climb-mixture that installs these packages."""

    def __post_init__(self) -> None:
        is_short = self.sequence is not None and self.sequence < 2
        if self.component_tokens < 1 or is_short or self.mixtures < 4:
            raise ConfigError(
                f"{self}: component_tokens must be at least 1, sequence at least 2, and mixtures "
                "at least 4"
            )

    def list_metrics(self, run: ProxyRun) -> tuple[str, ...]:
        """List all metrics of the targets."""
        return tuple(f"{t.name}.{metric}" for t in run.targets for metric in METRICS[t.kind])

    def load(self, inputs: FidelityInputs, device: str) -> MeasureMixtures:
        """Open the base checkpoint and the components.

        Raises:
            ConfigError: a folder has no causal language model, the models differ in shape, or no
                sequence length is known.
        """
        run = limit_items(inputs.run, self.items)
        names, sequence = self.list_metrics(run), self.sequence or inputs.sequence
        if sequence is None:
            raise ConfigError(
                "MergedFidelity.sequence is null, and no sequence length of the proxy is known; "
                "set MergedFidelity.sequence to the proxy's sequence length"
            )
        assert run.start is not None, "trials continue the base checkpoint"
        n_ids = 1 + max(run.tokenizer.open().get_vocab().values())
        base = open_model(run.start, n_ids)
        folders = [inputs.components[name] for name in inputs.domains]
        parts = {folder: open_model(folder, n_ids) for folder in folders}
        merger = ModelMerger.build(base, parts, device)

        def measure_mixture(weights_K: Array) -> list[float]:
            merger.merge(weights_K)
            found = measure(merger.model, run.targets, run.tokenizer, sequence)
            return [found[name] for name in names]

        def measure_mixtures(weights_MK: Array) -> Array:
            where = f"MergedFidelity on {device}"
            with make_reproducible(device, 0, "auto"), convert_errors(where):
                rows = [measure_mixture(weights_K) for weights_K in weights_MK]
            return np.array(rows).reshape(-1, len(names))

        return measure_mixtures


@dataclass(frozen=True, eq=False)
class ModelMerger:
    """Merges components on the CPU, which holds all of them."""

    model: Any
    """The base checkpoint on the device; its parameters are replaced."""

    base: Mapping[str, Tensor]
    """Parameters of the base checkpoint."""

    differences: Sequence[Mapping[str, Tensor]]
    """Component minus base, of each domain."""

    @classmethod
    def build(cls, base: Any, components: Mapping[str, Any], device: str) -> Self:
        """Subtract the base checkpoint from each component.

        Args:
            base: the base checkpoint.
            components: folder -> model, in the order of the domains.
            device: for the merged model.

        Raises:
            ConfigError: parameters of a component have other names or shapes than the base's.
        """
        start = {name: tensor.detach().clone() for name, tensor in base.named_parameters()}
        shapes = {name: tensor.shape for name, tensor in start.items()}
        differences = []
        for folder, component in components.items():
            own = {name: tensor.detach() for name, tensor in component.named_parameters()}
            if {name: tensor.shape for name, tensor in own.items()} != shapes:
                raise ConfigError(
                    f"parameters of component {folder} have other names or shapes than those of "
                    "the base checkpoint; delete this folder, and run `climb search` again"
                )
            differences.append({name: own[name] - start[name] for name in start})
        return cls(base.to(device), start, differences)

    def merge(self, weights_K: Array) -> None:
        """Set the parameters of `model` to the merged parameters for the weights of one mixture."""
        for name, parameter in self.model.named_parameters():
            merged = self.base[name].clone()
            for weight, difference in zip(weights_K, self.differences, strict=True):
                if weight:
                    merged.add_(difference[name], alpha=float(weight))
            parameter.data.copy_(merged)

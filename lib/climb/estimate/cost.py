"""Node-hours and price of a run; the typed result of an estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from climb.config import Config
from climb.errors import ConfigError
from climb.estimate.corpus import estimate_corpus
from climb.estimate.rates import Rates
from climb.estimate.sizes import estimate_sizes
from climb.estimate.stage import Stage, Workload
from climb.estimate.training import estimate_training

HOUR = 3600.0


@dataclass(frozen=True)
class Machines:
    """Nodes and their prices."""

    node_cores: int = 16
    """Cores of a node without GPUs."""

    node_gpus: int = 8
    """GPUs of a node with GPUs."""

    cpu_price: float | None = None
    """Price of an hour of a node without GPUs; None: unknown."""

    gpu_price: float | None = None
    """Price of an hour of a node with GPUs; None: unknown."""

    on_gpu: bool = True
    """Whether models are trained on GPUs."""

    def __post_init__(self) -> None:
        if min(self.node_cores, self.node_gpus) < 1:
            raise ConfigError(
                f"--node-cores is {self.node_cores} and --node-gpus is {self.node_gpus}; both must "
                "be at least 1"
            )


@dataclass(frozen=True)
class StageCost:
    """A stage in hours and money."""

    stage: Stage
    core_hours: float
    gpu_hours: float
    cpu_node_hours: float
    gpu_node_hours: float
    price: float | None
    """None if a price that the stage needs is unknown."""


@dataclass(frozen=True)
class Estimate:
    """Estimate of a whole run."""

    workload: Workload
    machines: Machines
    stages: tuple[StageCost, ...]
    sizes: Mapping[str, float]
    """Table or folder -> bytes."""

    @property
    def core_hours(self) -> float:
        """Sum over the stages."""
        return sum(cost.core_hours for cost in self.stages)

    @property
    def gpu_hours(self) -> float:
        """Sum over the stages."""
        return sum(cost.gpu_hours for cost in self.stages)

    @property
    def price(self) -> float | None:
        """Sum over the stages; None if the price of a stage is unknown."""
        prices = [cost.price for cost in self.stages]
        return None if None in prices else sum(price for price in prices if price is not None)

    def find_dominating(self) -> tuple[str, str, float]:
        """Return the stage with the largest share of the price, the word "price", and the share.

        If the price is unknown, node-hours replace it, and the word is "node-hours". An hour of a
        node with GPUs then counts as much as an hour of a node without GPUs.
        """
        if self.price:
            of, values = "price", [cost.price or 0.0 for cost in self.stages]
        else:
            of = "node-hours"
            values = [cost.cpu_node_hours + cost.gpu_node_hours for cost in self.stages]
        largest = max(range(len(values)), key=values.__getitem__)
        return self.stages[largest].stage.name, of, values[largest] / max(sum(values), 1e-300)

    def predict_seconds(self, cores: int) -> float:
        """Predict the seconds on one machine that has no GPU, with all its cores in use."""
        return sum(c.stage.core_seconds / cores + c.stage.fixed_seconds for c in self.stages)


def compute_estimate(
    cfg: Config,
    workload: Workload,
    machines: Machines,
    rates: Rates,
    parameters: Mapping[str, float] | None = None,
) -> Estimate:
    """Estimate a whole run.

    Args:
        cfg: the configuration.
        workload: the corpus.
        machines: nodes and prices.
        rates: throughputs.
        parameters: key of a model, such as `proxy.model`, -> its number of parameters.

    Raises:
        ConfigError: a throughput or the size of a model is unknown.
    """
    given = parameters or {}
    stages = estimate_corpus(cfg, workload, rates, given)
    stages += estimate_training(cfg, workload, rates, given, machines.on_gpu)
    costs = tuple(_price(stage, machines) for stage in stages)
    return Estimate(workload, machines, costs, estimate_sizes(cfg, workload, rates, given))


def _price(stage: Stage, machines: Machines) -> StageCost:
    core_hours, gpu_hours = stage.core_seconds / HOUR, stage.gpu_seconds / HOUR
    cpu_nodes, gpu_nodes = core_hours / machines.node_cores, gpu_hours / machines.node_gpus
    parts = [(cpu_nodes, machines.cpu_price), (gpu_nodes, machines.gpu_price)]
    needed = [(hours, price) for hours, price in parts if hours > 0]
    unknown = any(price is None for _, price in needed)
    total = None if unknown else sum(hours * (price or 0.0) for hours, price in needed)
    return StageCost(stage, core_hours, gpu_hours, cpu_nodes, gpu_nodes, total)

"""Throughputs, each with its unit, its hardware and its source."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from climb.errors import ConfigError

HERE = Path(__file__).parent
KEPT, MEASURED = HERE / "throughputs.yaml", HERE / "measured.json"


@dataclass(frozen=True)
class Rate:
    """One figure, such as a throughput."""

    name: str
    value: float
    unit: str
    hardware: str
    source: str


@dataclass(frozen=True)
class Efficiency:
    """The rate that a model reaches, divided by the rate of a device or of a small model.

    The quotients were measured for models of several sizes.
    """

    parameters: tuple[float, ...]
    """Numbers of parameters of the measured models."""

    factors: tuple[float, ...]
    """Quotient of each measured model."""

    source: str

    def at(self, parameters: float) -> float:
        """Interpolate the factor for a model size; outside the measured sizes, use the nearest."""
        return float(np.interp(math.log(parameters), np.log(self.parameters), self.factors))


@dataclass(frozen=True)
class Rates:
    """All figures by name."""

    by_name: Mapping[str, Rate]
    efficiency: Mapping[str, Efficiency]
    """`encode` and `train`: the rate that a model reaches on a GPU, divided by the rate of the GPU
    in matrix products. `trial.cpu` and `train.cpu`: the rate that a model reaches on a core,
    divided by the rate of a small model. The rate of the small model is in `by_name`, under the
    same name."""

    def find(self, name: str, why: str) -> Rate:
        """Return a figure.

        Args:
            name: name of the figure.
            why: what needs the figure, for the message.

        Raises:
            ConfigError: the figure is unknown.
        """
        if name not in self.by_name:
            known = ", ".join(sorted(self.by_name))
            raise ConfigError(
                f"{why} needs the rate {name!r}, which is unknown; measure it, and set it with "
                f"--rate {name}=VALUE (known: {known})"
            )
        return self.by_name[name]

    def get(self, name: str, default: float) -> float:
        """Return the value of a figure, or a default."""
        return self.by_name[name].value if name in self.by_name else default

    def override(self, given: Mapping[str, float], source: str) -> Rates:
        """Return the figures; the user's values replace or extend those of `by_name`.

        A user's value is for the size of the user's model, so it is not multiplied by a factor for
        the size.
        """
        changed = {}
        for name, value in given.items():
            unit = self.by_name[name].unit if name in self.by_name else "tokens or bytes per second"
            changed[name] = Rate(name, value, unit, "not stated", source)
        # If the user replaces a figure of `by_name`, such as `trial.cpu`, the efficiency with the
        # same name is removed. `by_name` has no figure `train`: this is only the name of an
        # efficiency for GPUs. So this efficiency is kept if the user adds a rate for stage `train`.
        replaced = changed.keys() & self.by_name.keys()
        efficiency = {name: one for name, one in self.efficiency.items() if name not in replaced}
        return replace(self, by_name={**self.by_name, **changed}, efficiency=efficiency)


def load_rates(measured: Mapping[str, Mapping[str, Any]] | None = None) -> Rates:
    """Read throughputs.yaml; measured figures of the same name take precedence.

    Args:
        measured: name -> value, unit, hardware and source; None: those of measured.json.
    """
    kept = yaml.safe_load(KEPT.read_text(encoding="utf-8"))
    if measured is None:
        measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    rows = {**kept["rates"], **measured}
    hardware = kept["hardware"]
    by_name = {
        name: Rate(
            name=name,
            value=float(row["value"]),
            unit=row["unit"],
            hardware=hardware.get(row["hardware"], row["hardware"]),
            source=row["source"],
        )
        for name, row in rows.items()
    }
    return Rates(by_name, {name: _read_points(row) for name, row in kept["efficiency"].items()})


def _read_points(row: Mapping[str, Any]) -> Efficiency:
    parameters, factors = zip(*row["points"], strict=True)
    return Efficiency(tuple(map(float, parameters)), tuple(map(float, factors)), row["source"])


def parse_assignments(texts: Sequence[str], option: str) -> dict[str, float]:
    """Parse `NAME=VALUE` options.

    Raises:
        ConfigError: a text is not NAME=VALUE, or its value is not a finite number above 0.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not name or not 0.0 < number < math.inf:
            raise ConfigError(f"{option} is {text!r}; write NAME=VALUE with a finite value above 0")
        found[name] = number
    return found

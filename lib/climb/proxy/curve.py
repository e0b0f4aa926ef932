"""The learning curve of a run: loss, learning rate and evaluations by step, in a file.

The run writes the file when the run ends. The driver reads this file, as it reads the file of a
heartbeat. A curve needs the losses of all steps, which the checkpoints contain. So an interrupted
run has the same curve as an uninterrupted one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from climb.files import write_file


@dataclass(frozen=True)
class CurvePoint:
    """The state of a run after a step."""

    step: int
    """Number of steps taken."""

    n_tokens: int
    """Tokens trained on so far."""

    loss: float
    """Mean training loss of the steps since the previous point, in nats."""

    learning_rate: float
    """Learning rate of this step."""

    metrics: Mapping[str, float]
    """Metrics by `<task>.<metric>`; empty if the model was not measured here."""


def build_curve(
    losses: Sequence[float],
    evaluations: Mapping[int, Mapping[str, float]],
    every: int,
    describe: Callable[[int], tuple[int, float]],
) -> list[CurvePoint]:
    """Build the points: one per `every` steps, one per evaluation, and one for the last step.

    Args:
        losses: loss of each step, in nats.
        evaluations: number of steps taken -> metrics.
        every: steps between two points.
        describe: number of steps taken -> tokens so far, and learning rate of the step.
    """
    points, before = [], 0
    for step in sorted({*range(every, len(losses), every), *evaluations, len(losses)}):
        loss = sum(losses[before:step]) / (step - before)
        n_tokens, rate = describe(step)
        points.append(CurvePoint(step, n_tokens, loss, rate, dict(evaluations.get(step, {}))))
        before = step
    return points


def write_curve(path: str, points: Sequence[CurvePoint]) -> None:
    """Write a learning curve to a file."""
    content = json.dumps([asdict(point) for point in points]).encode()
    write_file(Path(path), lambda: [content])


def read_curve(path: str) -> list[CurvePoint] | None:
    """Read a learning curve; None if there is no such file, as with proxies that write none."""
    try:
        return [CurvePoint(**point) for point in json.loads(Path(path).read_bytes())]
    except FileNotFoundError:
        return None

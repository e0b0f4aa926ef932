"""Drawings as inline SVG. They have no scripts and no links; equal numbers give equal bytes."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

ACCENT = "#0b66b5"
"""Color of the recommendation and the proposals; the first two baselines are grey. Color-blind
readers can tell blue from grey."""

DARK = "#4a5361"
LIGHT = "#98a1ad"
GRID = "#e3e6ea"
INK = "#1f2733"
MUTED = "#667080"

UNCLEAR = -1
"""Rank for the mark of a gain whose interval contains 0 or is below 0. This mark is dark."""

_COLORS = (ACCENT, DARK, LIGHT, "#7d6b91", "#a9824c")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"


def color_of(rank: int) -> str:
    """Return the color of a rank: 0 is the recommendation; 1, 2, ... are the baselines in order."""
    if rank == UNCLEAR:
        return DARK
    return _COLORS[min(rank, len(_COLORS) - 1)]


@dataclass(frozen=True)
class Axis:
    """Maps numbers to pixels; if `start` exceeds `end`, larger numbers get smaller positions."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the position of a value in pixels."""
        part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Return round numbers within the axis: about `wanted` of them, and at least two."""
        step = nice_step((self.high - self.low) / wanted)
        while True:
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last > first:
                return [i * step for i in range(first, last + 1)]
            step /= 2


def axis(values: Sequence[float], start: float, end: float, zero: bool = False) -> Axis:
    """Return an axis that contains all values with a margin; with `zero`, it also contains 0."""
    held = [*values, 0.0] if zero else list(values)
    low, high = min(held), max(held)
    air = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return Axis(low - air, high + air, start, end)


def nice_step(raw: float) -> float:
    """Return 1, 2 or 5 times a power of ten, near `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(n * power for n in (1.0, 2.0, 5.0, 10.0) if n * power >= 0.7 * raw)


def decimals(ticks: Sequence[float]) -> int:
    """Return the number of decimals that shows every tick exactly."""
    step = min((b - a for a, b in itertools.pairwise(ticks)), default=1.0)
    return next(n for n in range(12) if n == 11 or abs(step * 10**n - round(step * 10**n)) < 1e-6)


@dataclass(frozen=True)
class Type:
    """The style of a line of text."""

    color: str = MUTED
    size: float = 13
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False


@dataclass
class Drawing:
    """Shapes in drawing order."""

    width: int
    height: int
    label: str
    """Text for screen readers."""

    parts: list[str] = field(default_factory=list)

    def line(
        self, ends: tuple[float, float, float, float], color: str, width: float = 1, dash: str = ""
    ) -> None:
        """Draw a line; `ends` is (x1, y1, x2, y2)."""
        x1, y1, x2, y2 = (f"{value:.1f}" for value in ends)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{color}" '
            f'stroke-width="{width:g}" stroke-linecap="round"{dashed}/>'
        )

    def box(
        self, corner: tuple[float, float], size: tuple[float, float], color: str, opacity: float
    ) -> None:
        """Draw a filled rectangle."""
        self.parts.append(
            f'<rect x="{corner[0]:.1f}" y="{corner[1]:.1f}" width="{size[0]:.1f}" '
            f'height="{size[1]:.1f}" rx="2" fill="{color}" fill-opacity="{opacity:g}"/>'
        )

    def text(self, at: tuple[float, float], text: str, type_: Type) -> None:
        """Draw a line of text; it is escaped."""
        weight = ' font-weight="600"' if type_.bold else ""
        self.parts.append(
            f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" fill="{type_.color}" '
            f'font-size="{type_.size:g}" text-anchor="{type_.anchor}"{weight}>'
            f"{html.escape(text)}</text>"
        )

    def mark(
        self, at: tuple[float, float], rank: int, hint: str, size: float = 5, opacity: float = 1
    ) -> None:
        """Draw a mark in the shape and color of a mixture's rank; see `color_of`.

        The recommendation (rank 0) is a disc, the first baseline (1) a square, the second baseline
        (2) a hollow diamond. Further baselines are hollow squares. `UNCLEAR` is a dark disc.
        """
        x, y = at
        color = color_of(rank)
        if rank in (0, UNCLEAR):
            shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" fill="{color}"'
        elif rank == 2:
            corners = ((x, y - size - 1), (x + size + 1, y), (x, y + size + 1), (x - size - 1, y))
            points = " ".join(f"{px:.1f},{py:.1f}" for px, py in corners)
            shape = f'<polygon points="{points}" fill="#fff" stroke="{color}" stroke-width="2"'
        else:
            paint = f'fill="{color}"'
            if rank > 2:
                paint = f'fill="#fff" stroke="{color}" stroke-width="2"'
            shape = f'<rect x="{x - size + 0.5:.1f}" y="{y - size + 0.5:.1f}" '
            shape += f'width="{2 * size - 1:g}" height="{2 * size - 1:g}" {paint}'
        faint = f' fill-opacity="{opacity:g}"' if opacity < 1 else ""
        self.parts.append(f"{shape}{faint}><title>{html.escape(hint)}</title>{_closing(shape)}")

    def svg(self) -> str:
        """Return the SVG element."""
        inside = "".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'role="img" aria-label="{html.escape(self.label)}" font-family="{FONT}" '
            f'style="max-width:{self.width}px;width:100%;height:auto">{inside}</svg>'
        )


def _closing(shape: str) -> str:
    return f"</{shape[1:].split(' ', 1)[0]}>"

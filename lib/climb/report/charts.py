"""The charts of the report."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from climb.report.data import Domain
from climb.report.formats import number, printable, share, signed
from climb.report.measured import Mean
from climb.report.svg import (
    ACCENT,
    DARK,
    GRID,
    INK,
    UNCLEAR,
    Axis,
    Drawing,
    Type,
    axis,
    color_of,
    decimals,
)
from climb.search.gains import Gain
from climb.search.records import MixtureRecord
from climb.search.trials import RECOMMENDED

WIDTH = 984
HALF = 470
MAX_DOMAINS = 30
"""Maximum number of domains in the mixture chart. One more row has the sums of the domains that are
left out."""

NAME = Type(INK, 15, bold=True)
LABEL = Type(INK, 14)
NOTE = Type(size=12)
TICK = Type(size=12, anchor="middle")
TICK_LEFT = Type(size=12, anchor="end")


def mixture_chart(mixtures: Sequence[MixtureRecord], domains: Sequence[Domain]) -> str:
    """Draw the share of every domain in the recommendation and in the reference baseline.

    Args:
        mixtures: the recommendation, then the first baseline, which is the reference.
        domains: the domains. Below each domain's name, the chart shows its first five `terms`: the
            most distinctive nouns and word pairs of its texts.
    """
    recommended, reference = mixtures[0], mixtures[1]
    rows = _mixture_rows(recommended.weights, reference.weights, domains)
    label = f"Share of every domain: {reference.name} and recommended"
    drawing = Drawing(WIDTH, 44 * len(rows) + 62, label)
    top = max(max(row[2:]) for row in rows)
    x = Axis(0.0, top * 1.02, 300, WIDTH - 150)
    bottom = 44 * len(rows) + 40
    for i, (rank, name) in enumerate(((1, reference.name), (0, RECOMMENDED))):
        drawing.mark((308 + 150 * i, 12), rank, name)
        drawing.text((320 + 150 * i, 17), f"{printable(name, 20)} share", LABEL)
    ticks = x.ticks(6)
    digits = decimals([100.0 * tick for tick in ticks])
    for tick in ticks:
        drawing.line((x(tick), 28, x(tick), bottom), GRID)
        drawing.text((x(tick), bottom + 16), share(tick, digits), TICK)
    for i, (name, about, before, after) in enumerate(rows):
        y = 54 + 44 * i
        drawing.text((0, y), printable(name, 34), NAME)
        drawing.text((0, y + 17), printable(about, 46), NOTE)
        drawing.line((x(before), y, x(after), y), ACCENT, 4)
        drawing.mark((x(before), y), 1, f"{name}: {reference.name} {share(before)}", 6)
        drawing.mark((x(after), y), 0, f"{name}: recommended {share(after)}", 7)
        right = Type(ACCENT, 15, "end", bold=True)
        drawing.text((WIDTH, y + 5), f"{share(before)} → {share(after)}", right)
    return drawing.svg()


def _mixture_rows(
    recommended: Mapping[str, float], reference: Mapping[str, float], domains: Sequence[Domain]
) -> list[tuple[str, str, float, float]]:
    """List each domain's name, terms, reference share and recommended share.

    If domains are left out, the last row has the sums of their shares.
    """
    terms = {domain.name: domain.terms for domain in domains}
    names = sorted(recommended, key=lambda n: (-recommended[n], -reference[n], n))
    shown, rest = names[:MAX_DOMAINS], names[MAX_DOMAINS:]
    rows = [(n, ", ".join(terms.get(n, ())[:5]), reference[n], recommended[n]) for n in shown]
    if rest:
        before, after = (sum(weights[n] for n in rest) for weights in (reference, recommended))
        title = f"{len(rest)} smaller domain{'' if len(rest) == 1 else 's'}"
        rows.append((title, "together", before, after))
    return rows


def gain_chart(rows: Sequence[tuple[str, Gain]]) -> str:
    """Draw gains with their 90 % intervals, and a line at 0."""
    drawing = Drawing(WIDTH, 40 * len(rows) + 52, "Gains with their 90 % intervals")
    ends = [value for _, gain in rows for value in (gain.low, gain.high)]
    x = axis(ends, 300, WIDTH - 110, zero=True)
    bottom = 40 * len(rows) + 8
    _ticks_below(drawing, x, bottom)
    drawing.line((x(0), 0, x(0), bottom), DARK, 2)
    drawing.text((x(0) + 8, bottom + 38), "better →", Type(ACCENT, 13, bold=True))
    drawing.text((x(0) - 8, bottom + 38), "← worse", Type(DARK, 13, "end"))
    for i, (label, gain) in enumerate(rows):
        y = 24 + 40 * i
        rank = 0 if gain.low > 0 else UNCLEAR
        color = color_of(rank)
        drawing.text((0, y + 5), label, LABEL)
        _draw_interval(drawing, x(gain.low), x(gain.high), y, color)
        hint = f"{label}: {signed(gain.mean)} [{signed(gain.low)}, {signed(gain.high)}]"
        drawing.mark((x(gain.mean), y), rank, hint, 7)
        drawing.text((WIDTH, y + 5), signed(gain.mean), Type(color, 15, "end", bold=True))
    return drawing.svg()


def means_chart(means: Mapping[str, Mean], best: float | None = None) -> str:
    """For each mixture, draw the mean of its scores over seeds with the interval of the mean.

    Args:
        means: method -> mean score, higher is better; the recommendation first, then baselines.
        best: highest score of a proposed trial, drawn as a dotted line.
    """
    drawing = Drawing(HALF, 40 * len(means) + 48, "Scores over seeds")
    ends = [end for m in means.values() for end in (m.low, m.high, m.mean) if end is not None]
    x = axis(ends if best is None else [*ends, best], 110, HALF - 85)
    bottom = 40 * len(means) + 8
    _ticks_below(drawing, x, bottom, 3)
    if best is not None:
        drawing.line((x(best), 0, x(best), bottom), ACCENT, 1.5, "2 4")
    for rank, (method, mean) in enumerate(means.items()):
        y = 24 + 40 * rank
        color = ACCENT if rank == 0 else DARK
        drawing.text((0, y + 5), printable(method, 15), Type(color, 14, bold=rank == 0))
        if mean.low is not None and mean.high is not None:
            _draw_interval(drawing, x(mean.low), x(mean.high), y, color)
        drawing.mark((x(mean.mean), y), rank, f"{method}: {number(mean.mean)}", 6)
        drawing.text((HALF, y + 5), number(mean.mean), Type(color, 14, "end", bold=True))
    drawing.text(((x.start + x.end) / 2, bottom + 36), "score (higher is better) →", TICK)
    return drawing.svg()


def rounds_chart(
    proposals: Sequence[tuple[int, float]],
    replicates: Sequence[float],
    bands: Mapping[str, tuple[float, float]],
) -> str:
    """Draw the score of every trial, with one column per round.

    A band shows, for each baseline, the range of its scores over seeds.

    Args:
        proposals: round and score of each proposed trial.
        replicates: scores of the recommendation's replicates.
        bands: baseline -> lowest and highest score over seeds; in the order of the baselines.
    """
    rounds = sorted({round_ for round_, _ in proposals})
    drawing = Drawing(WIDTH, 370, "Score of every trial by round")
    ends = [end for band in bands.values() for end in band]
    y = axis([*(score for _, score in proposals), *replicates, *ends], 316, 8)
    left, right = 66, WIDTH - 96
    for tick in (ticks := y.ticks()):
        drawing.line((left, y(tick), right, y(tick)), GRID)
        drawing.text((left - 10, y(tick) + 4), number(tick, decimals(ticks)), TICK_LEFT)
    _draw_bands(drawing, y, (left, right), bands)
    width = (right - left) / (len(rounds) + bool(replicates))
    for i, round_ in enumerate(rounds):
        scores = sorted(score for r, score in proposals if r == round_)
        center = left + width * (i + 0.5)
        _draw_column(drawing, y, center, scores, f"round {round_ + 1}")
        median, half = statistics.median(scores), min(70.0, width / 3)
        drawing.line((center - half, y(median), center + half, y(median)), ACCENT, 2)
        drawing.text((center, 362), f"{len(scores)} trials", TICK)
    if replicates:
        center = right - width / 2
        _draw_column(drawing, y, center, sorted(replicates), RECOMMENDED)
        drawing.text((center, 362), f"{len(replicates)} seeds", TICK)
    return drawing.svg()


def _draw_bands(
    drawing: Drawing,
    y: Axis,
    ends: tuple[float, float],
    bands: Mapping[str, tuple[float, float]],
) -> None:
    """Draw bands with names beside them; a name that would overlap another is moved down."""
    left, right = ends
    ranks = {method: rank for rank, method in enumerate(bands, start=1)}
    lowest_free = 0.0
    for method, (low, high) in sorted(bands.items(), key=lambda item: (-sum(item[1]), item[0])):
        height = max(3.0, y(low) - y(high))
        drawing.box((left, y(high)), (right - left, height), color_of(ranks[method]), 0.3)
        at = max((y(low) + y(high)) / 2 + 5, lowest_free + 17)
        bold = ranks[method] == 1
        drawing.text((right + 10, at), printable(method, 12), Type(DARK, 14, bold=bold))
        lowest_free = at


def _draw_column(
    drawing: Drawing, y: Axis, center: float, scores: Sequence[float], label: str
) -> None:
    """Draw the dots of one column in five lanes, so that dots of similar scores stay visible."""
    final = label == RECOMMENDED
    for i, score in enumerate(scores):
        x = center + ((2 * i) % 5 - 2) * (8 if final else 17)
        hint = f"{label}: {number(score)}"
        drawing.mark((x, y(score)), 0, hint, 7 if final else 5, 1 if final else 0.5)
    type_ = Type(ACCENT if final else INK, 14, "middle", bold=final)
    drawing.text((center, 344), label, type_)


def calibration_chart(pairs: Sequence[tuple[float, float]]) -> str:
    """Draw measured against predicted scores of cross-validation."""
    drawing = Drawing(HALF, HALF - 20, "Measured against predicted score")
    both = axis([value for pair in pairs for value in pair], 0, 1)
    x = Axis(both.low, both.high, 66, HALF - 12)
    y = Axis(both.low, both.high, HALF - 78, 26)
    _ticks_below(drawing, x, y.start, 4, y.end)
    for tick in (ticks := y.ticks()):
        drawing.line((x.start, y(tick), x.end, y(tick)), GRID)
        drawing.text((x.start - 10, y(tick) + 4), number(tick, decimals(ticks)), TICK_LEFT)
    drawing.line((x.start, y.start, x.end, y.end), DARK, 1.5, "4 5")
    for predicted, measured in pairs:
        hint = f"predicted {number(predicted)}, measured {number(measured)}"
        drawing.mark((x(predicted), y(measured)), 0, hint, 5, 0.5)
    drawing.text(((x.start + x.end) / 2, HALF - 40), "predicted score →", TICK)
    drawing.text((x.start, 14), "↑ measured score", NOTE)
    return drawing.svg()


def _draw_interval(drawing: Drawing, low: float, high: float, y: float, color: str) -> None:
    drawing.line((low, y, high, y), color, 2)
    for end in (low, high):
        drawing.line((end, y - 6, end, y + 6), color, 2)


def _ticks_below(
    drawing: Drawing, x: Axis, bottom: float, wanted: int = 5, top: float = 4.0
) -> None:
    for tick in (ticks := x.ticks(wanted)):
        drawing.line((x(tick), top, x(tick), bottom), GRID)
        drawing.text((x(tick), bottom + 18), number(tick, decimals(ticks)), TICK)

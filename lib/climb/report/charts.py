"""The charts of the report. Every one says in words what its axis is and which way is better."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from climb.report.data import METHODS, Domain, Mixture
from climb.report.formats import number, printable, share, signed
from climb.report.measured import Spread
from climb.report.svg import (
    ACCENT,
    COLOURS,
    DARK,
    GRID,
    INK,
    Axis,
    Drawing,
    Type,
    axis,
    decimals,
)
from climb.search.compare import Gain

WIDTH = 984
HALF = 470
MOST_DOMAINS = 30
"""Rows of the mixture chart; smaller domains are summed in a last row."""

NAME = Type(INK, 15, bold=True)
LABEL = Type(INK, 14)
NOTE = Type(size=12)
TICK = Type(size=12, anchor="middle")
TICK_LEFT = Type(size=12, anchor="end")


def mixture_chart(mixtures: Mapping[str, Mixture], domains: Sequence[Domain]) -> str:
    """Natural against found share of every domain, largest found share first."""
    rows = _mixture_rows(mixtures, domains)
    drawing = Drawing(WIDTH, 44 * len(rows) + 62, "Natural and found share of every domain")
    top = max([*(row[3] for row in rows), *(row[2] or 0.0 for row in rows)])
    x = Axis(0.0, top * 1.02, 300, WIDTH - 150)
    bottom = 44 * len(rows) + 40
    for i, method in enumerate(("natural", "found")):
        drawing.mark((308 + 130 * i, 12), method, method)
        drawing.text((320 + 130 * i, 17), f"{method} share", LABEL)
    for tick in x.ticks(6):
        drawing.line((x(tick), 28, x(tick), bottom), GRID)
        drawing.text((x(tick), bottom + 16), share(tick, 0), TICK)
    for i, (name, about, before, after) in enumerate(rows):
        y = 54 + 44 * i
        drawing.text((0, y), printable(name, 34), NAME)
        drawing.text((0, y + 17), printable(about, 46), NOTE)
        before_text = ""
        if before is not None:
            before_text = f"{share(before)} → "
            drawing.line((x(before), y, x(after), y), ACCENT, 4)
            drawing.mark((x(before), y), "natural", f"{name}: natural {share(before)}", 6)
        drawing.mark((x(after), y), "found", f"{name}: found {share(after)}", 7)
        right = Type(ACCENT, 15, "end", bold=True)
        drawing.text((WIDTH, y + 5), f"{before_text}{share(after)}", right)
    return drawing.svg()


def _mixture_rows(
    mixtures: Mapping[str, Mixture], domains: Sequence[Domain]
) -> list[tuple[str, str, float | None, float]]:
    """Name, terms, natural and found share; what is too small for a row of its own is summed."""
    found = mixtures["found"].weights
    natural = mixtures["natural"].weights if "natural" in mixtures else {}
    terms = {domain.name: domain.terms for domain in domains}
    names = sorted(found, key=lambda n: (-found[n], -natural.get(n, 0.0), n))
    shown, rest = names[:MOST_DOMAINS], names[MOST_DOMAINS:]
    rows = [(n, ", ".join(terms.get(n, ())[:5]), natural.get(n), found[n]) for n in shown]
    if rest:
        before = sum(natural.get(n, 0.0) for n in rest) if natural else None
        after = sum(found[n] for n in rest)
        rows.append((f"{len(rest)} smaller domains", "together", before, after))
    return rows


def gain_chart(rows: Sequence[tuple[str, Gain]]) -> str:
    """Differences with their 90 % intervals around a line at 0."""
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
        kind = "found" if gain.low > 0 else "unclear"
        colour = COLOURS[kind]
        drawing.text((0, y + 5), label, LABEL)
        _whisker(drawing, x(gain.low), x(gain.high), y, colour)
        hint = f"{label}: {signed(gain.mean)} [{signed(gain.low)}, {signed(gain.high)}]"
        drawing.mark((x(gain.mean), y), kind, hint, 7)
        drawing.text((WIDTH, y + 5), signed(gain.mean), Type(colour, 15, "end", bold=True))
    return drawing.svg()


def spread_chart(spreads: Mapping[str, Spread], best: float | None = None) -> str:
    """Mean score of each mixture over seeds with its interval; higher is better."""
    rows = [(method, spreads[method]) for method in METHODS if method in spreads]
    drawing = Drawing(HALF, 40 * len(rows) + 48, "Scores over seeds")
    ends = [end for _, s in rows for end in (s.low, s.high, s.mean) if end is not None]
    x = axis(ends if best is None else [*ends, best], 80, HALF - 85)
    bottom = 40 * len(rows) + 8
    _ticks_below(drawing, x, bottom, 3)
    if best is not None:
        drawing.line((x(best), 0, x(best), bottom), ACCENT, 1.5, "2 4")
    for i, (method, spread) in enumerate(rows):
        y = 24 + 40 * i
        found = method == "found"
        colour = ACCENT if found else DARK
        drawing.text((0, y + 5), method, Type(colour, 14, bold=found))
        if spread.low is not None and spread.high is not None:
            _whisker(drawing, x(spread.low), x(spread.high), y, colour)
        drawing.mark((x(spread.mean), y), method, f"{method}: {number(spread.mean)}", 6)
        drawing.text((HALF, y + 5), number(spread.mean), Type(colour, 14, "end", bold=True))
    drawing.text(((x.start + x.end) / 2, bottom + 36), "score (higher is better) →", TICK)
    return drawing.svg()


def rounds_chart(
    proposals: Sequence[tuple[int, float]],
    answers: Sequence[float],
    bands: Mapping[str, tuple[float, float]],
) -> str:
    """Score of every trial by round; the baselines' seeds as bands across all rounds."""
    rounds = sorted({round_ for round_, _ in proposals})
    drawing = Drawing(WIDTH, 370, "Score of every trial by round")
    ends = [end for band in bands.values() for end in band]
    y = axis([*(score for _, score in proposals), *answers, *ends], 316, 8)
    left, right = 66, WIDTH - 76
    for tick in (ticks := y.ticks()):
        drawing.line((left, y(tick), right, y(tick)), GRID)
        drawing.text((left - 10, y(tick) + 4), number(tick, decimals(ticks)), TICK_LEFT)
    _bands(drawing, y, left, right, bands)
    width = (right - left) / (len(rounds) + bool(answers))
    for i, round_ in enumerate(rounds):
        scores = sorted(score for r, score in proposals if r == round_)
        place = left + width * (i + 0.5)
        _column(drawing, y, place, scores, f"round {round_ + 1}")
        median, half = statistics.median(scores), min(70.0, width / 3)
        drawing.line((place - half, y(median), place + half, y(median)), ACCENT, 2)
        drawing.text((place, 362), f"{len(scores)} trials", TICK)
    if answers:
        place = right - width / 2
        _column(drawing, y, place, sorted(answers), "answer")
        drawing.text((place, 362), f"{len(answers)} seeds", TICK)
    return drawing.svg()


def _bands(
    drawing: Drawing, y: Axis, left: float, right: float, bands: Mapping[str, tuple[float, float]]
) -> None:
    """Bands whose names stand beside them, moved apart where they would touch."""
    below = 0.0
    for method, (low, high) in sorted(bands.items(), key=lambda item: (-sum(item[1]), item[0])):
        height = max(3.0, y(low) - y(high))
        drawing.box((left, y(high)), (right - left, height), COLOURS[method], 0.3)
        at = max((y(low) + y(high)) / 2 + 5, below + 17)
        drawing.text((right + 10, at), method, Type(DARK, 14, bold=method == "natural"))
        below = at


def _column(drawing: Drawing, y: Axis, place: float, scores: Sequence[float], label: str) -> None:
    """Dots of one column, five lanes wide, so that dots of like score do not hide each other."""
    answer = label == "answer"
    for i, score in enumerate(scores):
        x = place + ((2 * i) % 5 - 2) * (8 if answer else 17)
        hint = f"{label}: {number(score)}"
        drawing.mark((x, y(score)), "found", hint, 7 if answer else 5, 1 if answer else 0.5)
    type_ = Type(ACCENT if answer else INK, 14, "middle", bold=answer)
    drawing.text((place, 344), label, type_)


def truth_chart(pairs: Sequence[tuple[float, float]]) -> str:
    """Predicted against measured scores of trials that the predictor had not seen."""
    drawing = Drawing(HALF, HALF - 20, "Predicted against measured score")
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
        drawing.mark((x(predicted), y(measured)), "found", hint, 5, 0.5)
    drawing.text(((x.start + x.end) / 2, HALF - 40), "predicted score →", TICK)
    drawing.text((x.start, 14), "↑ measured score", NOTE)
    return drawing.svg()


def _whisker(drawing: Drawing, low: float, high: float, y: float, colour: str) -> None:
    drawing.line((low, y, high, y), colour, 2)
    for end in (low, high):
        drawing.line((end, y - 6, end, y + 6), colour, 2)


def _ticks_below(
    drawing: Drawing, x: Axis, bottom: float, wanted: int = 5, top: float = 4.0
) -> None:
    for tick in (ticks := x.ticks(wanted)):
        drawing.line((x(tick), top, x(tick), bottom), GRID)
        drawing.text((x(tick), bottom + 18), number(tick, decimals(ticks)), TICK)

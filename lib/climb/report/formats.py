"""Format numbers, and text of documents and tables, for display."""

from __future__ import annotations

import math
import re

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"
THIN = "\N{NARROW NO-BREAK SPACE}"

# Surrogates, U+FFFE, U+FFFF, and C0 and C1 controls except tab and line feed: invalid in HTML.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


_SMALLEST = 1e-9
"""Differences between scores that are smaller than this value are rounding errors."""


def number(value: float | None, digits: int | None = None) -> str:
    """Format a number with fixed decimals and a Unicode minus sign; a dash for a missing value.

    Without `digits`, a number has four decimals, or more if two significant digits need more.
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if digits is None:
        digits = 4 if abs(value) < _SMALLEST else max(count_digits(abs(value)), 4)
    text = f"{value:.{digits}f}"
    if float(text) == 0.0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def count_digits(value: float) -> int:
    """Return the number of decimals that shows two significant digits of a value."""
    if value <= 0.0:
        return 4
    return min(max(1 - math.floor(math.log10(value)), 0), 12)


def signed(value: float | None, digits: int | None = None) -> str:
    """Format like `number`, with a plus sign unless the result is negative."""
    text = number(value, digits)
    return text if value is None or text.startswith((MINUS, NOTHING)) else f"+{text}"


def share(value: float | None, digits: int = 1) -> str:
    """Format a share in percent."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if 0.0 < value < 0.5 * 10.0 ** (-digits - 2):
        return f"<{10.0**-digits:.{digits}f}{THIN}%"
    return f"{number(100.0 * value, digits)}{THIN}%"


def count(value: int | None) -> str:
    """Format an integer with its digits in groups of three."""
    return NOTHING if value is None else f"{value:,}".replace(",", THIN)


def tokens(value: float | None) -> str:
    """Format a large number with a unit: 1.20 M."""
    if value is None or not math.isfinite(value):
        return NOTHING
    for size, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            short = value / size
            return f"{short:.{max(0, 2 - int(math.log10(max(short, 1.0))))}f}{THIN}{name}"
    return f"{value:.0f}"


def seconds(value: float) -> str:
    """Format a duration: 3 h 05 min."""
    if value < 90:
        return f"{value:.0f}{THIN}s"
    minutes = round(value / 60)
    if minutes < 90:
        return f"{minutes}{THIN}min"
    return f"{minutes // 60}{THIN}h{THIN}{minutes % 60:02d}{THIN}min"


def printable(text: str, longest: int | None = None) -> str:
    """Replace control characters, collapse white space, and cut the text at a length."""
    clean = " ".join(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text).split())
    if longest is not None and len(clean) > longest:
        return clean[: longest - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return clean

"""Numbers and foreign text as a reader sees them."""

from __future__ import annotations

import math
import re

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"
THIN = "\N{NARROW NO-BREAK SPACE}"

# C0 and C1 controls but tab and line feed, and surrogates: no HTML parser accepts them.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def number(value: float | None, digits: int = 4) -> str:
    """A fixed number of decimals, with a real minus sign; a dash for what is not there."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:.{digits}f}"
    if float(text) == 0.0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float | None, digits: int = 4) -> str:
    """As `number`, with a plus sign."""
    text = number(value, digits)
    return text if value is None or text.startswith((MINUS, NOTHING)) else f"+{text}"


def share(value: float | None, digits: int = 1) -> str:
    """A share as per cent."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if 0.0 < value < 0.5 * 10.0 ** (-digits - 2):
        return f"<{10.0**-digits:.{digits}f}{THIN}%"
    return f"{number(100.0 * value, digits)}{THIN}%"


def count(value: int | None) -> str:
    """A whole number, digits in groups of three."""
    return NOTHING if value is None else f"{value:,}".replace(",", THIN)


def tokens(value: float | None) -> str:
    """A large number, short: 1.2 M."""
    if value is None or not math.isfinite(value):
        return NOTHING
    for size, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            short = value / size
            return f"{short:.{max(0, 2 - int(math.log10(max(short, 1.0))))}f}{THIN}{name}"
    return f"{value:.0f}"


def seconds(value: float) -> str:
    """A duration, short: 3 h 05 min."""
    if value < 90:
        return f"{value:.0f}{THIN}s"
    minutes = round(value / 60)
    if minutes < 90:
        return f"{minutes}{THIN}min"
    return f"{minutes // 60}{THIN}h{THIN}{minutes % 60:02d}{THIN}min"


def printable(text: str, longest: int | None = None) -> str:
    """Foreign text without control characters, white space folded, cut at a length."""
    clean = " ".join(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text).split())
    if longest is not None and len(clean) > longest:
        return clean[: longest - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return clean

"""Tables as text: CSV, and cells of Markdown tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence


def format_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format a CSV file; None is an empty cell."""
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    return stream.getvalue()


def escape_cell(text: str) -> str:
    """Return text as a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")

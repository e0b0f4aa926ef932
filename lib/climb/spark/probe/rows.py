"""The results of questions about a platform, and the table of them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from climb.errors import one_line
from climb.files import is_refused
from climb.spark.failures import find_reason

REFUSALS = ("only supported", "not supported", "UNSUPPORTED", "PERMISSION_DENIED", "NOT_AVAILABLE")
"""What Spark and Databricks write when they do not allow something."""

Outcome = Literal["ok", "refused", "error"]


@dataclass(frozen=True)
class Row:
    """The result of one question."""

    area: str
    question: str
    outcome: Outcome
    detail: str


def ask(area: str, question: str, function: Callable[[], object]) -> Row:
    """Call a function that returns the detail of a row; if it raises, the detail is the error."""
    try:
        return Row(area, question, "ok", str(function()))
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        may_not = error.errno in (errno.EACCES, errno.EROFS)
        outcome: Outcome = "refused" if may_not or is_refused(error) else "error"
        return Row(area, question, outcome, f"{name}: {error.strerror or one_line(error)}")
    except Exception as error:
        text = str(error)
        outcome = "refused" if any(words in text for words in REFUSALS) else "error"
        reason = find_reason(text) if "SparkException" in text else one_line(error)[:500]
        return Row(area, question, outcome, f"{type(error).__name__}: {reason}")


def format_rows(rows: Sequence[Row]) -> str:
    """Format the rows as a count and a Markdown table, to paste into an issue."""
    counts = {name: sum(row.outcome == name for row in rows) for name in ("ok", "refused", "error")}
    lines = [", ".join(f"{n} {name}" for name, n in counts.items())]
    lines += ["| area | question | outcome | detail |", "|---|---|---|---|"]
    for row in rows:
        detail = row.detail.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {row.area} | {row.question} | {row.outcome} | {detail} |")
    return "\n".join(lines)

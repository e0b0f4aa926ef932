"""One line of `climb doctor`. This module needs only the standard library."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """What was checked, and what was found."""

    name: str
    ok: bool
    found: str
    fix: str = ""
    """What to do if the check fails."""

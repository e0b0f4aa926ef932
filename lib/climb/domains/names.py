"""Names of domains, made of their most distinctive terms.

Axes: K domains.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

NAME_TERMS = 3
"""Terms in a name."""

NAME_TERM_CHARS = 20
"""Characters of a term that a name uses: domain names become folder and column names."""


def name_groups(terms_K: Sequence[Sequence[str]]) -> list[str]:
    """Name each group by its first terms: lower-case ASCII letters joined by `-`, and unique.

    A form of a word that is already in the name is skipped ("court", "courts"). A group without a
    term in Latin letters is called `domain`. A repeated name gets the suffix `-2`, `-3`, ...

    Args:
        terms_K: the terms of each group, most distinctive first.
    """
    names: list[str] = []
    used: set[str] = set()
    for terms in terms_K:
        name = "-".join(_choose_parts(terms)) or "domain"
        unique, n = name, 1
        while unique in used:
            n += 1
            unique = f"{name}-{n}"
        used.add(unique)
        names.append(unique)
    return names


def _choose_parts(terms: Sequence[str]) -> list[str]:
    parts: list[str] = []
    for term in terms:
        ascii_term = unicodedata.normalize("NFKD", term).encode("ascii", "ignore").decode()
        part = re.sub(r"[^a-z]", "", ascii_term.lower())[:NAME_TERM_CHARS]
        is_repeated = any(part.startswith(p) or p.startswith(part) for p in parts)
        if part and not is_repeated and len(parts) < NAME_TERMS:
            parts.append(part)
    return parts

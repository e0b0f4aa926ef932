"""Names of domains: their most distinctive terms, earlier names, and names that the user gave.

Axes: K domains.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence

NAME_WORDS = 3
"""Maximum number of words in a name."""

NAME_WORD_CHARS = 20
"""Maximum characters of a word in a name: domain names become folder and column names."""

KEPT_SHARE = 0.5
"""A new domain takes the name of an earlier domain only if the sampled documents that both contain
are more than this share of the sampled documents of each of the two (see `match_earlier`)."""


def name_groups(terms_K: Sequence[Sequence[str]], taken: Collection[str] = ()) -> list[str]:
    """Name each group by its first terms: ASCII words joined by `-`; names are unique.

    Letters are lower-case. A term with a form of a word that is already in the name is skipped
    ("court", "courts"). A group without a term in Latin letters is called `domain`. A repeated name
    gets the suffix `-2`, `-3`, ...

    Args:
        terms_K: the terms of each group, most distinctive first; a term is one or two words.
        taken: names of other groups.
    """
    names: list[str] = []
    used = set(taken)
    for terms in terms_K:
        name = "-".join(_choose_words(terms)) or "domain"
        unique, n = name, 1
        while unique in used:
            n += 1
            unique = f"{name}-{n}"
        used.add(unique)
        names.append(unique)
    return names


def _choose_words(terms: Sequence[str]) -> list[str]:
    """Choose words of the first terms; a pair of words is taken as a whole or not at all."""
    chosen: list[str] = []
    for term in terms:
        words = [word for word in map(_to_ascii, term.split()) if word]
        new: list[str] = []
        for word in words:
            if not any(_is_form(word, other) for other in [*chosen, *new]):
                new.append(word)
        if new == words and len(chosen) + len(new) <= NAME_WORDS:
            chosen += new
    return chosen


def _to_ascii(word: str) -> str:
    plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z]", "", plain.lower())[:NAME_WORD_CHARS]


def _is_form(word: str, other: str) -> bool:
    """Whether the longer word begins with the shorter.

    If the shorter has 5 or more letters, its last letter may differ.
    """
    short, long = sorted((word, other), key=len)
    return long.startswith(short) or (len(short) >= 5 and long.startswith(short[:-1]))


def match_earlier(
    earlier: Mapping[str, Sequence[str]], domain_of: Mapping[str, int]
) -> dict[int, str]:
    """Find the new domains that are continuations of earlier ones, by their documents.

    A new domain takes the name of an earlier domain on two conditions. It contains more than
    `KEPT_SHARE` of the earlier domain's sampled documents. Of the new domain's documents that were
    sampled in any earlier domain, more than `KEPT_SHARE` are from this earlier domain. So if a
    domain is split into halves, or if two domains of equal size are merged, no name is kept.

    Args:
        earlier: name -> ids of sampled documents of the earlier domain.
        domain_of: id of a document -> its new domain, for the sampled documents that have one.

    Returns:
        New domain -> name.
    """
    shared: dict[tuple[str, int], int] = {}
    for name, ids in earlier.items():
        for doc_id in ids:
            if doc_id in domain_of:
                key = (name, domain_of[doc_id])
                shared[key] = shared.get(key, 0) + 1
    in_new: dict[int, int] = {}
    for (_, k), n in shared.items():
        in_new[k] = in_new.get(k, 0) + n
    return {
        k: name
        for (name, k), n in shared.items()
        if n > KEPT_SHARE * max(len(earlier[name]), in_new[k])
    }


def rename(names_K: Sequence[str], given: Mapping[str, str]) -> list[str]:
    """Replace each name that is a key of `given`."""
    return [given.get(name, name) for name in names_K]

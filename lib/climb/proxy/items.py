"""Read the evaluation items of a target, check them, and find items that two files share."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from climb.config.sections import ProxyConfig
from climb.errors import InputError
from climb.proxy import Target
from climb.quality.ngrams import split_words

CHECKED_ITEMS = 100
"""Number of items at the start of a file that are checked before a run."""

LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")

ID_DIGITS = 16
"""Hexadecimal digits of the identity of an item."""


@dataclass(frozen=True)
class Record:
    """One line of a file of items."""

    values: dict[str, Any]
    digest: bytes
    """SHA-256 of the line, which orders the items."""

    line: int
    """Number of the line in the file, from 1."""


def list_targets(cfg: ProxyConfig, split: Literal["search", "report"]) -> tuple[Target, ...]:
    """List the configured targets that have a file for this split."""
    paths = {task.name: getattr(task, split) for task in cfg.located_targets}
    return tuple(
        Target(
            name=task.name,
            kind=task.kind,
            path=paths[task.name],
            limit=task.limit,
            where=tuple(sorted(task.where.items())),
        )
        for task in cfg.targets
        if paths[task.name] is not None
    )


def read_records(target: Target) -> Iterator[Record]:
    """Read the items that `target.where` selects, without those that `target.excluded` names.

    Raises:
        InputError: the file cannot be read, a line is not a valid item, or there is no item.
    """
    n, excluded = 0, frozenset(target.excluded)
    for record in _read_lines(target):
        if all(_look_up(record.values, key) in accepted for key, accepted in target.where):
            n += 1
            if not excluded or identify(record.values, target.kind) not in excluded:
                yield record
    if not n:
        raise InputError(_describe_absence(target))


def check_first_items(target: Target) -> None:
    """Check the first lines of a target, so that wrong files are found before anything is trained.

    The first `CHECKED_ITEMS` items are checked. If `target.where` is set, all lines up to the first
    item that it selects are checked too.

    Raises:
        InputError: the file cannot be read, a checked line is not a valid item, or there is no
            item or no selected item.
    """
    if not any(True for _ in itertools.islice(_read_lines(target), CHECKED_ITEMS)):
        raise InputError(_describe_absence(target))
    if target.where:
        next(read_records(target))


def identify(values: dict[str, Any], kind: str) -> str:
    """Identify an item by the words of its text, or of its context and its right choice.

    Bits per byte are measured on these parts. The identity does not depend on the other choices, on
    case, or on the white space and punctuation between words. But if a part has punctuation only,
    without any word, the identity depends on this punctuation.
    """
    if kind == "text":
        parts = [values["text"]]
    else:
        parts = [values["context"], values["choices"][values["label"]]]
    words = [split_words(part) or part.split() for part in parts]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:ID_DIGITS]


def exclude_reported(
    search: Sequence[Target], report: Iterable[Target]
) -> tuple[tuple[Target, ...], dict[str, int]]:
    """Exclude the report items of all targets from the search, so that no item is used for both.

    The report items stay as they are published. A target without a shared item stays unchanged.

    Args:
        search: the targets with the files that the search uses.
        report: the targets with the files that only the final comparison uses.

    Returns:
        The targets of the search, and the number of excluded items of each target that has any.

    Raises:
        InputError: a file cannot be read, a line is not a valid item, or all items of a target of
            the search are report items.
    """
    reported = {
        identify(record.values, target.kind) for target in report for record in read_records(target)
    }
    targets, n_dropped = [], {}
    for target in search if reported else ():
        found = [identify(record.values, target.kind) for record in read_records(target)]
        shared = reported.intersection(found)
        if shared.issuperset(found):
            raise InputError(
                f"target {target.name!r}: all {len(found):,} items of {target.path} are report "
                "items too; use different files for search and report"
            )
        if shared:
            n_dropped[target.name] = sum(identity in shared for identity in found)
        targets.append(replace(target, excluded=tuple(sorted(shared))))
    return tuple(targets or search), n_dropped


def _describe_absence(target: Target) -> str:
    selected = "".join(f" with {key} in {list(values)}" for key, values in target.where)
    return f"target {target.name!r}: {target.path} contains no items{selected}"


def _look_up(values: dict[str, Any], key: str) -> Any:
    """Return the value at a path such as `meta.subject`; None if there is none."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _read_lines(target: Target) -> Iterator[Record]:
    """Read and check the lines that are not blank."""
    opener = gzip.open if target.path.endswith(".gz") else open
    try:
        with opener(target.path, "rb") as stream:
            for number, line in enumerate(stream, start=1):
                if text := line.strip():
                    where = f"target {target.name!r}: {target.path} line {number}"
                    values = _parse_line(text, target.kind, where)
                    yield Record(values, hashlib.sha256(text).digest(), number)
    except (OSError, EOFError, zlib.error) as error:  # the last two: truncated or damaged gzip
        raise InputError(
            f"target {target.name!r}: {target.path} cannot be read: {error}"
        ) from error


def _parse_line(line: bytes, kind: str, where: str) -> dict[str, Any]:
    """Parse one line, and check every field that is used.

    Raises:
        InputError: the line is not JSON, or a field is wrong.
    """
    try:
        record = json.loads(line)
    except ValueError as error:  # also bytes that are not UTF-8
        raise InputError(f"{where} is not JSON: {error}") from error
    mistake = _find_mistake(record, kind)
    if mistake:
        raise InputError(f"{where}: {mistake}")
    return dict(record)


def _find_mistake(record: Any, kind: str) -> str | None:
    """Describe the first mistake of a record; None if it is valid."""
    if not isinstance(record, dict):
        return f"is a JSON {type(record).__name__}; it must be an object"
    text_key = "text" if kind == "text" else "context"
    text = record.get(text_key)
    if not isinstance(text, str):
        return f"{text_key!r} is {text!r}; it must be a string"
    if kind == "text":
        return _find_lone_surrogate(text_key, text) if text else "'text' is empty"
    choices, label = record.get("choices"), record.get("label")
    if not isinstance(choices, list) or len(choices) < 2:
        return f"'choices' is {choices!r}; it must be a list of at least two strings"
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        return f"'choices' is {choices!r}; every choice must be a string that is not blank"
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < len(choices):
        return f"'label' is {label!r}; it must be an integer >= 0 and < {len(choices)}"
    return _find_lone_surrogate(text_key, text) or _find_lone_surrogate("choices", "".join(choices))


def _find_lone_surrogate(key: str, text: str) -> str | None:
    """Describe the first lone surrogate, which JSON may contain and a tokenizer cannot read.

    `ingest` replaces lone surrogates in documents. Items are measured as they are published, and a
    replaced character would change the bits per byte. So an item with a lone surrogate is refused.
    """
    found = LONE_SURROGATE.search(text)
    if found is None:
        return None
    return (
        f"{key!r} has {found[0]!r} after {text[: found.start()][-20:]!r}; this lone surrogate is "
        "half of a character: write the whole character"
    )

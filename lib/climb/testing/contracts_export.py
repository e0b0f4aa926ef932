"""Contract check of export formats, built-in and external. It does not run a trainer.

def test_my_format_keeps_the_contract(tmp_path):
    check_format(MyFormat(), tmp_path)
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from climb.errors import ConfigError
from climb.export import Contents, ExportedDomain, Format, Kind, Shard, Split, Tokenization
from climb.export.check import compare_shares
from climb.export.contents import count_samples
from climb.export.format import describe_files, is_inside
from climb.export.groups import escape_name
from climb.testing.rules import call_plugin, check_recipe

WEIGHTS = {"café/old letters": 0.5, "novels": 0.3, "notes": 0.2}
MEAN_TOKENS = {"café/old letters": 60, "novels": 400, "notes": 20}
"""Mean tokens of a document; the largest mean is twenty times the smallest."""

N_TOKENS = 40_000
"""Tokens of each domain."""

N_SAMPLES = 20_000

TOKENIZATION = Tokenization("check", 1000, 999)


def check_format(format: Format, folder: Path) -> None:
    """Write small exports, and read them with `read_by_rule`.

    Args:
        format: the plug-in to check.
        folder: an empty folder.

    Raises:
        AssertionError: the format breaks a rule, which the message states.
    """
    name = type(format).__name__
    assert isinstance(format, Format), f"{name} lacks a method or property of climb.export.Format"
    check_recipe(format, "format")
    assert format.unit in ("tokens", "documents"), (
        f"{name}.unit is {format.unit!r}; it must be 'tokens' or 'documents'"
    )
    kinds: Any = format.kinds
    known = isinstance(kinds, tuple) and 0 < len(kinds) == len({"mixed", "recipe"} & set(kinds))
    assert known, f"{name}.kinds is {kinds!r}; it must be a tuple of 'mixed', 'recipe' or both"
    for kind in format.kinds:
        with call_plugin(f"{name}, kind {kind}"):
            contents = write_small_export(format, folder / kind / "export", kind, batch=7)
            again = write_small_export(format, folder / kind / "again", kind, batch=1000)
            _check_files(name, contents, again)
            _check_shares(name, format, contents)
            _check_without_validation(name, format, contents)


def write_small_export(format: Format, folder: Path, kind: Kind, batch: int) -> Contents:
    """Write an export of three domains whose documents have different lengths.

    Args:
        format: the plug-in to check.
        folder: where the export is written.
        kind: the kind of the export.
        batch: number of rows in an Arrow batch.
    """
    documents = {name: _draw_lengths(name) for name in WEIGHTS}
    shards: list[Shard] = []
    written: dict[str, list[int]] = {}
    for split, count in (("train", 2), ("validation", 1)):
        rows = {name: _make_rows(name, documents[name], split) for name in WEIGHTS}
        groups = rows if kind == "recipe" else {None: _mix_rows(rows)}
        if split == "train":
            written = {name: _list_lengths(groups.values(), name) for name in WEIGHTS}
        for domain, own in groups.items():
            for index in range(count):
                part = own[len(own) * index // count : len(own) * (index + 1) // count]
                escaped = None if domain is None else escape_name(domain)
                stem = _name_shard(format, split, escaped, index, count)
                files = _write_shard(format, folder / stem, part, batch)
                names = tuple(sorted(file.relative_to(folder).as_posix() for file in files))
                sizes = tuple((folder / file).stat().st_size for file in names)
                n_tokens = sum(row["n_tokens"] for row in part)
                shards.append(Shard(split, domain, names, sizes, len(part), n_tokens))  # type: ignore[arg-type]
    contents = Contents(
        kind=kind,
        domains=tuple(_describe_domain(name, written[name]) for name in sorted(WEIGHTS)),
        shards=tuple(sorted(shards, key=lambda s: (s.split, s.domain or "", s.files))),
        tokenization=TOKENIZATION if format.stores_tokens else None,
        target_tokens=4 * N_TOKENS,
        sequence_length=32,
        seed=1,
        folder=str(folder.absolute()),
    )
    _write_description(format, contents)
    return contents


def _name_shard(format: Format, *shard: Any) -> str:
    with call_plugin("name_shard"):
        stem = format.name_shard(*shard)
    assert is_inside(stem), f"name_shard must return a path in the folder; found {stem!r}"
    return stem


def _write_description(format: Format, contents: Contents) -> None:
    """Write the files that `describe` returns."""
    folder, name = Path(contents.folder), type(format).__name__
    described = describe_files(format, contents)
    files = {file for shard in contents.shards for file in shard.files}
    twice = sorted(files & {os.path.normpath(path) for path in described})
    assert not twice, f"{name}: describe replaces {', '.join(twice)}, which is a file of a shard"
    for path, text in described.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def _check_files(name: str, one: Contents, other: Contents) -> None:
    assert [s.files for s in one.shards] == [s.files for s in other.shards], (
        f"{name} names files by something other than split, domain and number"
    )
    for file in (file for shard in one.shards for file in shard.files):
        same = Path(one.folder, file).read_bytes() == Path(other.folder, file).read_bytes()
        assert same, f"{name}: the bytes of {file} depend on how rows are divided into batches"
    all_files = [file for shard in one.shards for file in shard.files]
    assert len(set(all_files)) == len(all_files), f"{name}: two shards have the same file"


def _check_shares(name: str, format: Format, contents: Contents) -> None:
    """Check that `read_by_rule` draws the domains with the weights of the export.

    It must read the weights from the export's files, and not from its argument `contents`.
    """
    if format.unit == "tokens" and contents.kind == "mixed":
        return  # a sequence has text of several domains
    fixed_length = format.unit == "tokens"
    other = dataclasses.replace(
        contents, domains=tuple(dataclasses.replace(d, weight=1 / 3) for d in contents.domains)
    )
    for described in (contents, other) if contents.kind == "recipe" else (contents,):
        samples = format.read_by_rule(Path(contents.folder), described)
        counted = count_samples(itertools.islice(samples, N_SAMPLES))
        result = compare_shares(contents, counted, fixed_length)
        shares = {row.domain: round(row.delivered, 3) for row in result.domains}
        assert result.arrived, (
            f"{name}, kind {contents.kind}: the files deliver {shares} instead of {WEIGHTS}; "
            f"weights must be read from the files, and their unit must be {format.unit}"
        )


def _list_lengths(groups: Iterable[list[dict[str, Any]]], domain: str) -> list[int]:
    """List the number of tokens of each document of a domain, over all groups of rows."""
    return [row["n_tokens"] for rows in groups for row in rows if row["domain"] == domain]


def _check_without_validation(name: str, format: Format, contents: Contents) -> None:
    """Check `read_by_rule` without a validation split, unless the format requires this split."""
    train = dataclasses.replace(contents, shards=tuple(contents.list_shards("train")))
    for shard in contents.list_shards("validation"):
        for file in shard.files:
            Path(contents.folder, file).unlink()
    try:
        _write_description(format, train)
    except ConfigError:
        return  # the format needs the split, and says so
    except (LookupError, ArithmeticError, TypeError, ValueError) as error:
        raise AssertionError(
            f"{name}, kind {contents.kind}: describe fails without a validation split, with "
            f"{error!r}; it must work, or raise ConfigError"
        ) from error
    sample = next(iter(format.read_by_rule(Path(contents.folder), train)), None)
    assert sample is not None, f"{name} reads nothing from an export without a validation split"


def _draw_lengths(domain: str) -> list[int]:
    """Draw the number of tokens of each document of a domain."""
    mean = MEAN_TOKENS[domain]
    random = np.random.default_rng(mean)
    return list(map(int, random.integers(mean // 2, mean + mean // 2, N_TOKENS // mean)))


def _make_rows(domain: str, lengths_N: list[int], split: Split | str) -> list[dict[str, Any]]:
    """Make one row per document; a text has as many words as tokens."""
    lengths_N = lengths_N if split == "train" else lengths_N[:8]
    return [
        {"doc_id": f"{split}-{domain}-{i}", "copy": 0, "domain": domain, "n_tokens": n}
        | {"text": f"é{i}" + " w" * (n - 1)}
        for i, n in enumerate(lengths_N)
    ]


def _mix_rows(rows: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Repeat rows until each domain has its share of tokens, and shuffle them."""
    mixed: list[dict[str, Any]] = []
    for domain, own in rows.items():
        wanted = WEIGHTS[domain] * 2 * N_TOKENS
        cycle = itertools.cycle(own)
        while wanted > 0:
            row = next(cycle)
            mixed.append(row)
            wanted -= row["n_tokens"]
    order = np.random.default_rng(0).permutation(len(mixed))
    return [mixed[i] for i in order]


def _write_shard(format: Format, path: Path, rows: list[dict[str, Any]], batch: int) -> list[Path]:
    """Write one shard as a Spark task does, and return the shard's files."""
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    before = set(path.parent.rglob("*"))
    tokens = TOKENIZATION if format.stores_tokens else None
    writer = format.open_shard(path, tokens)
    strings, integers = ("doc_id", "domain", "text"), ("copy", "n_tokens")
    schema = pa.schema({c: pa.string() for c in strings} | {c: pa.int32() for c in integers})
    for part in pa.Table.from_pylist(rows, schema).to_batches(max_chunksize=batch):
        ids_N = [
            np.array([1] * (n - 1) + [TOKENIZATION.end_of_text_id], TOKENIZATION.dtype)
            for n in part["n_tokens"].to_pylist()
        ]
        writer.write(part, ids_N if tokens else None)
    writer.close()
    files = sorted(file for file in set(path.parent.rglob("*")) - before if file.is_file())
    assert files, f"name_shard must give each shard a path of its own; {path.name} is there already"
    return files


def _describe_domain(name: str, lengths_N: list[int]) -> ExportedDomain:
    tokens = sum(lengths_N)
    return ExportedDomain(
        name=name,
        weight=WEIGHTS[name],
        documents=len(lengths_N),
        tokens=tokens,
        squared_tokens=float(sum(n * n for n in lengths_N)),
        epochs=WEIGHTS[name] * 4 * N_TOKENS / tokens,
        max_epochs=4.0,
    )

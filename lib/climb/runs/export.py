"""Export a mixture of `climb recommend` for the user's own files.

The user has one folder of files for each domain. The files are not copied: the export only lists
the files and the weights of their domains. The numbers of tokens and documents of each domain come
from PRIOR.csv.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from climb.config import build
from climb.errors import ConfigError, InputError
from climb.export import Contents, ExportedDomain, Format, Shard
from climb.export.card import CardFacts
from climb.export.contents import dump_contents
from climb.export.folder import Target, follow_link
from climb.export.format import needs_all_endings
from climb.export.formats import list_for_own_files
from climb.export.render import FinishedExport, render_files
from climb.export.tokenization import check_tokenizer, read_own_tokenizer
from climb.files import list_files
from climb.runs.sheet import Sheet, compare_names, find_mixture_error

if TYPE_CHECKING:
    from climb.config import Config
    from climb.config.sections import ExportConfig


def export_own(mixture: Path, prior: Path, data: Path, cfg: Config) -> str:
    """Write an export that lists the user's files and the weights of their domains.

    Args:
        mixture: BEST.csv (domain, weight).
        prior: PRIOR.csv (domain, tokens; also documents if the format counts documents).
        data: folder with one folder of files for each domain.
        cfg: section `export` has the format and the output folder.

    Returns:
        A summary to print.

    Raises:
        ConfigError: the format or a setting of the export cannot be used with the user's files.
        InputError: a domain has no files, a column is missing or wrong, or the weights do not sum
            to 1.
    """
    format: Format = build(cfg.export.format, Format)
    name = type(format).__name__
    _check_format(format, cfg.export)
    weights = _read_weights(mixture)
    domains = _describe_domains(weights, prior, format, cfg)
    folders = {data / name for name in weights}
    shards = tuple(s for domain in domains for s in _find_shards(data, domain, format, folders))
    target = Target(follow_link(cfg.export_folder))
    contents = _describe_contents(domains, shards, target, cfg)
    spec = cfg.export.format
    plan = {"mixture": mixture.stem, "format": spec, "contents": dump_contents(contents)}
    if target.is_current(plan):
        return f"the export in {target.path} is up to date"
    export = FinishedExport(spec, format, contents, plan, mixture.stem)
    files = render_files(export, CardFacts(), {})
    target.start(plan)
    target.finish(files, {})
    return (
        f"wrote the weights of {len(domains)} domains and {len(shards)} files for {name} to "
        f"{target.path}"
    )


def _check_format(format: Format, cfg: ExportConfig) -> None:
    """Check that a format and the settings of the export can be used with the user's own files.

    Raises:
        ConfigError: the format or a setting cannot be used with the user's files, or the format
            needs a tokenizer and none is configured.
    """
    name = type(format).__name__
    check_tokenizer(format, cfg.tokenizer)
    if cfg.kind == "mixed":
        raise ConfigError("export.kind is mixed, but your files are not mixed; remove this setting")
    if not format.endings:
        raise ConfigError(
            f"format {name} cannot be used with --mixture and --data, because its trainer needs "
            f"files that climb writes; use one of {', '.join(list_for_own_files())}, or run "
            "`climb mix` and then `climb export` without --mixture"
        )
    if format.stores_tokens and cfg.tokenizer is None:
        raise ConfigError(
            f"{name} stores tokens: name the tokenizer of your files with --tokenizer FOLDER"
        )


def _describe_contents(
    domains: tuple[ExportedDomain, ...], shards: tuple[Shard, ...], target: Target, cfg: Config
) -> Contents:
    own = cfg.export.tokenizer
    return Contents(
        kind="recipe",
        domains=domains,
        shards=shards,
        tokenization=read_own_tokenizer(own, cfg.export.end_of_text)[1] if own else None,
        target_tokens=cfg.search.target_tokens,
        sequence_length=cfg.export.sequence_length,
        seed=cfg.search.seed,
        folder=str(target.path),
        own_files=True,
    )


def _describe_domains(
    weights: dict[str, float], prior: Path, format: Format, cfg: Config
) -> tuple[ExportedDomain, ...]:
    """Describe the domains with a positive weight.

    Raises:
        InputError: PRIOR.csv and the mixture differ in domains, or tokens or documents are missing.
    """
    tokens = _read_column(prior, "tokens")
    if tokens.keys() != weights.keys():
        differences = compare_names(tokens, weights)
        raise InputError(f"{prior}: its domains are not those of the mixture ({differences})")
    if empty := sorted(name for name, weight in weights.items() if weight and tokens[name] < 1.0):
        raise InputError(
            f"{prior}: {empty[0]} has {tokens[empty[0]]:g} tokens; an export needs the number of "
            "tokens of each domain, not its share"
        )
    documents: dict[str, float] = {}
    if "documents" in Sheet.read(prior).columns:
        documents = _read_column(prior, "documents")
    elif format.unit == "documents":
        raise InputError(
            f"{prior}: no column `documents`; {type(format).__name__} counts documents, so an "
            "export needs the number of documents of each domain; add this column"
        )
    names = sorted(name for name, weight in weights.items() if weight > 0.0)
    limits = cfg.search.mixture_constraints.find_epoch_limits(sorted(weights))
    total = sum(weights[name] for name in names)
    return tuple(
        ExportedDomain(
            name=name,
            weight=weights[name] / total,
            documents=round(documents.get(name, 0)),
            tokens=round(tokens[name]),
            squared_tokens=0.0,
            epochs=weights[name] / total * cfg.search.target_tokens / tokens[name],
            max_epochs=limits[name][0] if name in limits else None,
        )
        for name in names
    )


def _read_weights(mixture: Path) -> dict[str, float]:
    weights = _read_column(mixture, "weight")
    if error := find_mixture_error(list(weights.values())):
        raise InputError(f"{mixture}: {error}")
    return weights


def _read_column(path: Path, column: str) -> dict[str, float]:
    """Read one column of numbers by domain.

    Raises:
        InputError: the column is missing, a domain occurs twice, or a number is negative.
    """
    sheet = Sheet.read(path)
    values = sheet.read_numbers([column])[:, 0].tolist()
    position = sheet.find_column("domain")
    names = [row[position].strip() for row in sheet.rows]
    found = dict(zip(names, values, strict=True))
    if len(found) < len(names):
        raise InputError(f"{path}: a domain occurs twice; keep one row for each domain")
    negative = [name for name, value in found.items() if value < 0.0]
    if negative:
        raise InputError(
            f"{path}: column {column!r} is negative for domain {negative[0]!r}; use 0 or more"
        )
    return found


def _find_shards(
    data: Path, domain: ExportedDomain, format: Format, folders: Set[Path]
) -> list[Shard]:
    """Find a domain's files with the endings of the format.

    The folder of a domain may contain the folder of another domain: `web/news` in `web`. The files
    in the inner folder belong only to the inner domain, also if its weight is 0. The tokens of a
    domain are divided among its shards in proportion to the sizes of the shards' files with text or
    tokens. Index files are not included in these sizes, because the size of an index file depends
    on the number of documents, not on the number of tokens.

    Raises:
        InputError: there are no such files or all are empty, or a shard lacks a file.
    """
    folder, endings, needs_all = data / domain.name, format.endings, needs_all_endings(format)
    inner = {other for other in folders if folder in other.parents}
    files = [file for file in list_files(folder) if inner.isdisjoint(file.parents)]
    groups = _group_files(files, endings, needs_all).values()
    sizes = [{str(file): file.stat().st_size for file in files} for files in groups]
    ending = endings[0] if needs_all else ""
    n_bytes = [sum(size for name, size in s.items() if name.endswith(ending)) for s in sizes]
    total = sum(n_bytes)
    if not total:
        raise InputError(
            f"--data: {folder} has no non-empty file that ends in {' or '.join(endings)}; "
            "put the files of every domain into a folder with the name of the domain"
        )
    return [
        Shard("train", domain.name, tuple(s), tuple(s.values()), 0, domain.tokens * n // total)
        for s, n in zip(sizes, n_bytes, strict=True)
    ]


def _group_files(
    files: Sequence[Path], endings: Sequence[str], needs_all: bool
) -> dict[str, list[Path]]:
    """Group the files that form one shard.

    With `needs_all`, files form a group if their paths differ only in the ending. Without
    `needs_all`, every file is a group of its own.

    Raises:
        InputError: with `needs_all`, a group lacks a file with one of the endings.
    """
    groups: dict[str, list[Path]] = {}
    for file in files:
        ending = next((e for e in endings if file.name.endswith(e)), None)
        if ending is not None and file.is_file():
            name = str(file).removesuffix(ending) if needs_all else str(file)
            groups.setdefault(name, []).append(file.absolute())
    for name, found in groups.items() if needs_all else ():
        missing = [e for e in endings if not any(file.name.endswith(e) for file in found)]
        if missing:
            raise InputError(f"--data: {found[0]} exists, but {name}{missing[0]} is missing")
    return groups

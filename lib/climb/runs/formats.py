"""Published formats of runs, read into one `RunTable`: RegMix's and Olmix's pairs of CSV files.

`curator.py` reads the format of the Curator tutorial, and `table.py` reads climb's own format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from climb.errors import InputError, one_line
from climb.runs.pairs import RunPart, check_file_order, join_parts, read_parts, select_data_columns
from climb.runs.rows import RejectedRow, RunTable, label_columns
from climb.runs.sheet import Sheet, list_names, parse_finite, quote_cell


def read_regmix(mixtures: Path, losses: Path) -> RunTable:
    """Read RegMix's pair of files, joined by their column `index`.

    The file of mixtures has a column `train_<domain>` per domain. The file of losses has a column
    `metric/<domain>_val_loss` per validation set. The common prefix of all domains (`the_pile_`)
    is removed in both files, so that a domain and the loss on its text have the same name.

    Raises:
        InputError: a file cannot be read, a column is missing, or the files are in the wrong order.

    Source:
        sail-sg/regmix, data/train_mixture_1m.csv and data/train_pile_loss_1m.csv, as written by
        regression_fitting/collect_mixture_data.py and collect_loss_data.py.
    """
    sheets = Sheet.read(mixtures, any_width=True), Sheet.read(losses, any_width=True)
    columns = [select_data_columns(sheet, ("index",)) for sheet in sheets]
    domains, prefix = _strip_common_prefix(columns[0])
    metrics = [
        column.removeprefix("metric/").removesuffix("_val_loss").removeprefix(prefix)
        for column in columns[1]
    ]
    return _join_files(sheets, ("index", "index"), columns, (domains, metrics))


def read_regmix_prior(path: Path) -> dict[str, float]:
    """Read token shares for RegMix's domains: a CSV file, or RegMix's own YAML file.

    The CSV file has the columns `domain` and `token_share` (or `tokens`). The YAML file has a
    section `train` that maps names to shares. The common prefix of all names is removed, as in
    `read_regmix`.

    Raises:
        InputError: the file cannot be read, or it has no such columns or section.

    Source:
        sail-sg/regmix, model_training/token_prior.yaml.
    """
    if path.suffix in (".yaml", ".yml"):
        amounts = _read_section(path, (("train",),))
    else:
        sheet = Sheet.read(path)
        domain = sheet.find_column("domain")
        column = "tokens" if "tokens" in sheet.columns else "token_share"
        values = sheet.read_numbers([column])[:, 0].tolist()
        names = [row[domain].strip() for row in sheet.rows]
        _check_unique(path, names, names)
        amounts = dict(zip(names, values, strict=True))
    return dict(zip(_strip_common_prefix(list(amounts))[0], amounts.values(), strict=True))


def read_olmix(ratios: Path, metrics: Path) -> RunTable:
    """Read Olmix's `ratios.csv` and `metrics.csv`, joined by their column `run` or `run_id`.

    The columns `name` and `index`, and a column without a name, describe the run. Every other
    column is a domain (`dclm:science_math_and_technology`) or a metric.

    Raises:
        InputError: a file cannot be read, a column is missing, or the files are in the wrong order.

    Source:
        allenai/olmix, README.md ("Input format"), olmix/fit/loaders.py (load_from_csv), and the
        swarms (sets of proxy runs) beside configs/fits/.
    """
    sheets = Sheet.read(ratios, any_width=True), Sheet.read(metrics, any_width=True)
    others = ("run", "run_id", "name", "index")
    columns = [select_data_columns(sheet, others) for sheet in sheets]
    return _join_files(sheets, [_find_olmix_key(sheet) for sheet in sheets], columns, columns)


def read_olmix_prior(path: Path) -> dict[str, float]:
    """Read the tokens of Olmix's domains: from a fit's YAML file, or the JSON file of a swarm.

    A swarm is a set of proxy runs. The section with the tokens is `priors.token_counts`, or
    `token_counts` at the top level.

    Raises:
        InputError: the file cannot be read, or it has no such section.

    Source:
        allenai/olmix, olmix/fit/config.py (PriorsConfig) and loaders.py (load_priors_from_json).
    """
    return _read_section(path, (("priors", "token_counts"), ("token_counts",)))


def _find_olmix_key(sheet: Sheet) -> str:
    for key in ("run", "run_id"):
        if key in sheet.columns:
            return key
    raise InputError(
        f"{sheet.path} has no column 'run' or 'run_id'; its columns are {list_names(sheet.columns)}"
    )


def _join_files(
    sheets: tuple[Sheet, Sheet],
    keys: Sequence[str],
    columns: Sequence[Sequence[str]],
    names: Sequence[Sequence[str]],
) -> RunTable:
    """Join two files by the columns `keys`; the data `columns` are renamed to `names`."""
    files = sheets[0].path, sheets[1].path
    if set(columns[0]) == set(columns[1]):
        raise InputError(
            f"{files[0]} and {files[1]} have the same columns; the first file must contain "
            "mixtures, the second metrics"
        )
    sides: list[list[RunPart]] = []
    rejected: list[RejectedRow] = []
    for sheet, key, selected, renamed in zip(sheets, keys, columns, names, strict=True):
        _check_unique(sheet.path, renamed, selected)
        title = "name" if "name" in sheet.columns and "name" not in selected else None
        side, invalid = read_parts(sheet, key, selected, title)
        sides.append(side)
        rejected += invalid
    check_file_order(sides[0], sides[1], files)
    rows, unmatched = join_parts(sides[0], sides[1])
    domains, metrics = (
        dict(zip(renamed, label_columns("", selected).values(), strict=True))
        for renamed, selected in zip(names, columns, strict=True)
    )
    return RunTable(files, domains, metrics, tuple(rows), (*rejected, *unmatched))


def _strip_common_prefix(columns: Sequence[str]) -> tuple[list[str], str]:
    """Remove `train_` and then the common prefix of all names; return the names and the prefix."""
    names = list(columns)
    if all(name.startswith("train_") for name in names):
        names = [name.removeprefix("train_") for name in names]
    prefix = _find_common_prefix(names)
    return [name.removeprefix(prefix) for name in names], prefix


def _find_common_prefix(names: Sequence[str]) -> str:
    """Find the longest common prefix that ends in an underscore and leaves no name empty."""
    if len(names) < 2:
        return ""
    first, last = min(names), max(names)
    shared = first
    while not last.startswith(shared):
        shared = shared[:-1]
    while shared and (not shared.endswith("_") or shared in names):
        shared = shared[:-1]
    return shared


def _check_unique(path: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if not repeated:
        return
    name = repeated[0]
    same = [c for c, other in zip(columns, names, strict=True) if other == name]
    if set(same) == {name}:
        raise InputError(f"{path}: domain {name!r} appears {len(same)} times; it must appear once")
    raise InputError(
        f"{path}: the columns {', '.join(map(repr, same))} would all be imported as {name!r}; "
        "rename them"
    )


def _read_section(path: Path, sections: Sequence[tuple[str, ...]]) -> dict[str, float]:
    """Read names and numbers from the first of `sections` that a YAML or JSON file contains."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is not valid YAML or JSON: {one_line(error, 1_000)}") from error
    for keys in sections:
        section: Any = content
        for key in keys:
            section = section.get(key) if isinstance(section, Mapping) else None
        if isinstance(section, Mapping) and section:
            return {str(name): _parse_amount(path, name, value) for name, value in section.items()}
    expected = " or ".join(".".join(keys) for keys in sections)
    raise InputError(f"{path} has no section {expected} that maps domains to numbers")


def _parse_amount(path: Path, name: object, value: object) -> float:
    number = parse_finite(str(value))
    if number is None or number < 0.0:
        raise InputError(
            f"{path}: the value of domain {name!r} is {quote_cell(str(value))}; expected a number "
            ">= 0"
        )
    return number

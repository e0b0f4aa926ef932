"""Published formats of runs, read into one `RunTable`: RegMix's and Olmix's pairs of CSV files.

The Curator tutorial's format is in `curator.py`, climb's own in `rows.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from climb.errors import InputError
from climb.pairs import Half, check_order, data_columns, halves, join
from climb.rows import Rejected, RunTable, labels
from climb.sheet import Sheet, finite, shown


def regmix(mixtures: Path, losses: Path) -> RunTable:
    """Read RegMix's pair of files, joined by their column `index`.

    The file of mixtures has a column `train_<domain>` per domain, the file of losses a column
    `metric/<domain>_val_loss` per validation set. Both lose what all domains begin with
    (`the_pile_`), so that a domain and the loss on its text have one name.

    Raises:
        InputError: a file that cannot be read, a column that is missing, files in the wrong order.

    Source:
        sail-sg/regmix, data/train_mixture_1m.csv and data/train_pile_loss_1m.csv, as written by
        regression_fitting/collect_mixture_data.py and collect_loss_data.py.
    """
    sheets = Sheet.read(mixtures, any_width=True), Sheet.read(losses, any_width=True)
    columns = [data_columns(sheet, ("index",)) for sheet in sheets]
    bare, prefix = _bare_domains(columns[0])
    metrics = [
        column.removeprefix("metric/").removesuffix("_val_loss").removeprefix(prefix)
        for column in columns[1]
    ]
    return _paired(sheets, ("index", "index"), columns, (bare, metrics))


def regmix_prior(path: Path) -> dict[str, float]:
    """Read token shares for RegMix's domains: a CSV file, or RegMix's own YAML file.

    The CSV file has the columns `domain` and `token_share` (or `tokens`), the YAML file a section
    `train` of names and shares. Names lose what all of them begin with, as the mixtures' do.

    Raises:
        InputError: a file that cannot be read, or that has no such columns or section.

    Source:
        sail-sg/regmix, model_training/token_prior.yaml.
    """
    if path.suffix in (".yaml", ".yml"):
        found = _section(path, (("train",),))
    else:
        sheet = Sheet.read(path)
        place = sheet.place("domain")
        amount = "tokens" if "tokens" in sheet.columns else "token_share"
        amounts = sheet.numbers([amount])[:, 0].tolist()
        names = [row[place].strip() for row in sheet.rows]
        _check_distinct(path, names, names)
        found = dict(zip(names, amounts, strict=True))
    return dict(zip(_bare_domains(list(found))[0], found.values(), strict=True))


def olmix(ratios: Path, metrics: Path) -> RunTable:
    """Read Olmix's `ratios.csv` and `metrics.csv`, joined by their column `run` or `run_id`.

    Columns named `name` and `index`, and one without a name, describe the run; every other
    column is a domain (`dclm:science_math_and_technology`), or a metric.

    Raises:
        InputError: a file that cannot be read, a column that is missing, files in the wrong order.

    Source:
        allenai/olmix, README.md ("Input format"), olmix/fit/loaders.py (load_from_csv), and the
        swarms beside configs/fits/.
    """
    sheets = Sheet.read(ratios, any_width=True), Sheet.read(metrics, any_width=True)
    known = ("run", "run_id", "name", "index")
    columns = [data_columns(sheet, known) for sheet in sheets]
    return _paired(sheets, [_olmix_key(sheet) for sheet in sheets], columns, columns)


def olmix_prior(path: Path) -> dict[str, float]:
    """Read the tokens of Olmix's domains: from a fit's YAML file, or the JSON file of a swarm.

    `priors.token_counts` is taken, or `token_counts` at the top of the file.

    Raises:
        InputError: a file that cannot be read, or that has no such section.

    Source:
        allenai/olmix, olmix/fit/config.py (PriorsConfig) and loaders.py (load_priors_from_json).
    """
    return _section(path, (("priors", "token_counts"), ("token_counts",)))


def _olmix_key(sheet: Sheet) -> str:
    for key in ("run", "run_id"):
        if key in sheet.columns:
            return key
    raise InputError(
        f"{sheet.path} has no column 'run' or 'run_id'; it has {', '.join(sheet.columns)}"
    )


def _paired(
    sheets: tuple[Sheet, Sheet],
    keys: Sequence[str],
    columns: Sequence[Sequence[str]],
    names: Sequence[Sequence[str]],
) -> RunTable:
    """Join two files, whose `columns` are called `names`, by their `keys`."""
    files = sheets[0].path, sheets[1].path
    if set(columns[0]) == set(columns[1]):
        raise InputError(
            f"{files[0]} and {files[1]} have the same columns: one is of mixtures, the other must "
            "be of metrics"
        )
    sides: list[list[Half]] = []
    rejected: list[Rejected] = []
    for sheet, key, taken, called in zip(sheets, keys, columns, names, strict=True):
        _check_distinct(sheet.path, called, taken)
        title = "name" if "name" in sheet.columns and "name" not in taken else None
        side, misfits = halves(sheet, key, taken, title)
        sides.append(side)
        rejected += misfits
    check_order(sides[0], sides[1], files)
    rows, apart = join(sides[0], sides[1])
    domains, metrics = (
        dict(zip(called, labels("", taken).values(), strict=True))
        for called, taken in zip(names, columns, strict=True)
    )
    return RunTable(files, domains, metrics, tuple(rows), (*rejected, *apart))


def _bare_domains(columns: Sequence[str]) -> tuple[list[str], str]:
    """Domains without `train_` and without what all of them begin with, and what that was."""
    names = list(columns)
    if all(name.startswith("train_") for name in names):
        names = [name.removeprefix("train_") for name in names]
    prefix = _common_prefix(names)
    return [name.removeprefix(prefix) for name in names], prefix


def _common_prefix(names: Sequence[str]) -> str:
    """What all names begin with, up to an underscore, where something is left of each of them."""
    if len(names) < 2:
        return ""
    first, last = min(names), max(names)
    shared = first
    while not last.startswith(shared):
        shared = shared[:-1]
    while shared and (not shared.endswith("_") or shared in names):
        shared = shared[:-1]
    return shared


def _check_distinct(path: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        same = [c for c, name in zip(columns, names, strict=True) if name == twice[0]]
        raise InputError(f"{path}: {', '.join(map(repr, same))} would both be named {twice[0]!r}")


def _section(path: Path, places: Sequence[tuple[str, ...]]) -> dict[str, float]:
    """Names and numbers at the first of these places in a YAML or JSON file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        message = " ".join(str(error).split())
        raise InputError(f"{path} is neither YAML nor JSON: {message}") from error
    for place in places:
        found: Any = content
        for key in place:
            found = found.get(key) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping) and found:
            return {str(name): _amount(path, name, value) for name, value in found.items()}
    wanted = " or ".join(".".join(place) for place in places)
    raise InputError(f"{path} has no section {wanted} of domains and their numbers")


def _amount(path: Path, name: object, value: object) -> float:
    number = finite(str(value))
    if number is None or number < 0.0:
        raise InputError(
            f"{path}: domain {name!r} has {shown(str(value))}; it must be a number of 0 or more"
        )
    return number

"""Runs of NeMo Curator's CLIMB tutorial: its results as CSV, and its mixtures as shell scripts.

The scripts are read as text and never executed.

Source: NVIDIA-NeMo/Curator, tutorials/text/nemotron-climb-data-curation: 8_predict.py
(load_benchmark_results, generate_mixtures) and 5_mixture.py (generate_config_from_prior).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from climb.errors import InputError
from climb.runs.pairs import RunPart, join_parts, read_parts, select_data_columns
from climb.runs.rows import Location, RunRow, RunTable, label_columns
from climb.runs.sheet import Sheet, list_names, quote_cell

MODEL = "model_benchmark_path"
"""Column with the path of a model's results; its last part is the run's name: n1, n2, ..."""

METRICS = ("arc_easy_acc", "piqa_acc_norm", "hellaswag_acc_norm", "valid_avg")
"""Accuracies in percent; valid_avg is the mean of the other three."""


def read_curator(
    results: Path,
    mixtures: Sequence[str] = (),
    metrics: Sequence[str] = (),
    domains: Iterable[str] = (),
) -> RunTable:
    """Read `lm_harness_results.csv`, and the mixtures from its own columns or from scripts.

    Without scripts, every column has the weights of one domain, except the columns of the model, of
    metrics and of pandas' row numbers. An empty weight counts as 0, as in the tutorial. A script is
    named after its run (`n1.sh`, ...), and its lines are `weight path/to/domain`. With scripts, the
    domains are those that occur in the scripts, and those in the argument `domains`.

    Args:
        results: the CSV file.
        mixtures: folders of scripts. If the results come from several folders, one per round,
            `RESULTS=FOLDER` says which scripts belong to which results.
        metrics: metric columns besides those that the tutorial writes.
        domains: further domains, used only with scripts; they need not occur in any script.

    Raises:
        InputError: a file or folder cannot be read, a column is missing, a domain is in the
            columns and in the scripts, or a results folder does not match exactly one round.
    """
    sheet = Sheet.read(results, any_width=True)
    sheet.find_column(MODEL)
    for metric in metrics:
        sheet.find_column(metric)
    measured = [c for c in sheet.columns if c in METRICS or c in metrics]
    if not measured:
        raise InputError(
            f"{results} has none of the metric columns {', '.join(METRICS)}; name your metric "
            "columns with --metric COLUMN"
        )
    if mixtures:
        return _join_scripts(sheet, measured, mixtures, domains)
    return _read_columns(sheet, measured)


def read_curator_prior(folder: Path) -> dict[str, float]:
    """Compute token shares of the domains from the sizes in bytes of `<domain>.bin`.

    Raises:
        InputError: the folder does not exist, or its token files are missing or empty.

    Source:
        get_token_distribution in the tutorial's utils.py.
    """
    sizes = {path.stem: float(path.stat().st_size) for path in _list_files(folder, "*.bin")}
    whole = sum(sizes.values())
    if not whole:
        raise InputError(f"{folder} has no token files <domain>.bin, or all of them are empty")
    return {name: size / whole for name, size in sizes.items()}


def _read_columns(sheet: Sheet, measured: Sequence[str]) -> RunTable:
    domains = select_data_columns(sheet, (MODEL, *measured))
    parts, rejected = read_parts(sheet, MODEL, [*domains, *measured])
    rows = tuple(
        RunRow(
            PurePosixPath(part.key).name,
            tuple(cell.strip() or "0" for cell in part.cells[: len(domains)]),
            part.cells[len(domains) :],
            part.location,
            part.location,
        )
        for part in parts
    )
    labels = label_columns("", domains), label_columns("", measured)
    return RunTable((sheet.path,), *labels, rows, tuple(rejected))


def _join_scripts(
    sheet: Sheet, measured: Sequence[str], mixtures: Sequence[str], more: Iterable[str]
) -> RunTable:
    parts, invalid = read_parts(sheet, MODEL, measured)
    parents = {str(PurePosixPath(part.key).parent) for part in parts if part.key}
    folders = _ScriptFolders.from_options(mixtures, parents, sheet.path)
    results = [
        RunPart(p.location, folders.find_key(p.key), PurePosixPath(p.key).name, p.cells)
        for p in parts
    ]
    scripts = folders.read_scripts()
    domains = sorted({*more, *(domain for _, _, weights, _ in scripts for domain in weights)})
    both = sorted(set(domains) & set(sheet.columns))
    if both:
        raise InputError(
            f"{sheet.path} has columns for domains that are also in the scripts: "
            f"{list_names(both)}; remove --mixtures to read the weights from the columns"
        )
    sides = [
        RunPart(
            Location(str(path), 0),
            _join_key(round_, path.stem),
            path.stem,
            tuple(weights.get(domain, "0") for domain in domains),
            error,
        )
        for round_, path, weights, error in scripts
    ]
    rows, unmatched = join_parts(sides, results)
    ignored = [c for c in sheet.columns if c != MODEL and c not in measured]
    return RunTable(
        (sheet.path,),
        {domain: f"the weight of {domain!r}" for domain in domains},
        label_columns("", measured),
        tuple(rows),
        (*invalid, *unmatched),
        tuple(c for c in ignored if c),
    )


@dataclass(frozen=True)
class _ScriptFolders:
    """The folders of scripts. Each folder of scripts belongs to one round of the search.

    The file of results contains the path of a results folder for each model. All models of one
    round have the same results folder. In `--mixtures RESULTS=FOLDER`, RESULTS is the last part of
    this path, or its last parts, and serves as the name of the round. With `--mixtures FOLDER`, all
    results belong to one round, and its name is empty.
    """

    folders: tuple[tuple[str, Path], ...]
    """Pairs of the name of a round and a folder with scripts of this round."""

    rounds: Mapping[str, str]
    """Folder of results -> name of its round."""

    @classmethod
    def from_options(
        cls, mixtures: Sequence[str], parents: Iterable[str], results: Path
    ) -> _ScriptFolders:
        """Build from the values of --mixtures and the folders in the results file."""
        pairs = [_parse_option(text) for text in mixtures]
        parents = sorted(parents)
        if len(parents) > 1 and not all(round_ for round_, _ in pairs):
            raise InputError(
                f"{results} has results from {len(parents)} folders ({list_names(parents)}), which "
                "may have runs of equal names; for each of these folders, pass the folder of its "
                "mixture scripts, for example "
                f"--mixtures {PurePosixPath(parents[0]).name}=FOLDER"
            )
        rounds = {}
        for parent in parents:
            matches = {
                round_ for round_, _ in pairs if f"/{parent}".endswith(f"/{round_}".rstrip("/"))
            }
            if len(matches) != 1:
                raise InputError(
                    f"{results}: the results folder {parent} matches "
                    + (" and ".join(map(repr, sorted(matches))) if matches else "none")
                    + f" of --mixtures {', '.join(mixtures)}; it must match exactly one"
                )
            rounds[parent] = matches.pop()
        return cls(tuple(pairs), rounds)

    def read_scripts(self) -> list[tuple[str, Path, dict[str, str], str]]:
        """Read every script; return its round, path, weights and error (empty if valid)."""
        scripts = [
            (round_, path, *_read_script(path))
            for round_, folder in self.folders
            for path in _list_files(folder, "*.sh")
        ]
        if not scripts:
            folders = ", ".join(str(folder) for _, folder in self.folders)
            raise InputError(f"{folders}: no mixture scripts (n1.sh, n2.sh, ...) found")
        return scripts

    def find_key(self, path: str) -> str:
        """Return the key that a model's results and script have in common; '' for an empty path."""
        model = PurePosixPath(path)
        return _join_key(self.rounds[str(model.parent)], model.name) if path else ""


def _parse_option(text: str) -> tuple[str, Path]:
    """Parse `RESULTS=FOLDER`, or a folder for all results."""
    round_, equals, folder = text.partition("=")
    if Path(text).is_dir() or not equals:
        return "", Path(text)
    return round_.strip("/"), Path(folder)


def _join_key(round_: str, model: str) -> str:
    return f"{round_}/{model}" if round_ else model


def _list_files(folder: Path, pattern: str) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder, or does not exist")
    return sorted(folder.glob(pattern))


def _read_script(path: Path) -> tuple[dict[str, str], str]:
    """Return domain -> weight as text, and a description of the first error (empty if valid)."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return {}, f"the file cannot be read as UTF-8 text: {type(error).__name__}"
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(("#", "cat", "EOF")):
            continue
        weight, *rest = line.split(maxsplit=1)
        domain = PurePosixPath("".join(rest).strip()).name
        if not domain:
            return {}, f"line {number} is {quote_cell(line)}; expected a weight and a path"
        pairs.append((domain, weight))
    counts = Counter(name for name, _ in pairs)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        return {}, f"domain {repeated[0]!r} appears more than once"
    return dict(pairs), "" if pairs else "the script contains no domain"

"""Runs of NeMo Curator's CLIMB tutorial: its results as CSV, and its mixtures as shell scripts.

The scripts are read as text and never run.

Source: NVIDIA-NeMo/Curator, tutorials/text/nemotron-climb-data-curation: 8_predict.py
(load_benchmark_results, generate_mixtures) and 5_mixture.py (generate_config_from_prior).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from climb.errors import InputError
from climb.pairs import Half, data_columns, halves, join
from climb.rows import Place, RunRow, RunTable, labels
from climb.sheet import Sheet, shown

MODEL = "model_benchmark_path"
"""The column of the folder of a model's results; its last part is the run's name: n1, n2, ..."""

METRICS = ("arc_easy_acc", "piqa_acc_norm", "hellaswag_acc_norm", "valid_avg")
"""Accuracies in percent; valid_avg is the mean of the other three."""


def nvidia(
    results: Path,
    mixtures: Sequence[str] = (),
    metrics: Sequence[str] = (),
    domains: Iterable[str] = (),
) -> RunTable:
    """Read `lm_harness_results.csv`, and the mixtures from its own columns or from scripts.

    Without scripts every column is a domain but the model's and the metrics; an empty weight is 0,
    as the tutorial has it. With scripts (`n1.sh`, ...: lines of `weight path/to/domain`) the
    domains are those that they name, and a run has the script of its name.

    Args:
        results: the CSV file.
        mixtures: folders of scripts. When the results come from several folders, as in several
            rounds, `RESULTS=FOLDER` says which scripts belong to which results.
        metrics: columns that are metrics beside those that the tutorial writes.
        domains: with scripts, domains that there are though no script may name them.

    Raises:
        InputError: a file or folder that cannot be read, a column that is missing or that two
            things claim, or folders that could belong to several rounds.
    """
    sheet = Sheet.read(results, any_width=True)
    sheet.place(MODEL)
    for metric in metrics:
        sheet.place(metric)
    measured = [c for c in sheet.columns if c in METRICS or c in metrics]
    if not measured:
        raise InputError(
            f"{results} has none of the metrics {', '.join(METRICS)}; name its own with --metric"
        )
    if mixtures:
        return _with_scripts(sheet, measured, mixtures, domains)
    return _with_columns(sheet, measured)


def nvidia_prior(folder: Path) -> dict[str, float]:
    """Shares of the domains by the bytes of their tokens: the sizes of `<domain>.bin`.

    Raises:
        InputError: no such folder, or no token files in it.

    Source:
        get_token_distribution in the tutorial's utils.py.
    """
    sizes = {path.stem: float(path.stat().st_size) for path in _listed(folder, "*.bin")}
    whole = sum(sizes.values())
    if not whole:
        raise InputError(f"{folder} has no files <domain>.bin with tokens in them")
    return {name: size / whole for name, size in sizes.items()}


def _with_columns(sheet: Sheet, measured: Sequence[str]) -> RunTable:
    weighed = data_columns(sheet, (MODEL, *measured))
    found, misfits = halves(sheet, MODEL, [*weighed, *measured])
    rows = tuple(
        RunRow(
            _model(half.run).name,
            tuple(cell.strip() or "0" for cell in half.cells[: len(weighed)]),
            half.cells[len(weighed) :],
            half.at,
            half.at,
        )
        for half in found
    )
    return RunTable((sheet.path,), labels("", weighed), labels("", measured), rows, tuple(misfits))


def _with_scripts(
    sheet: Sheet, measured: Sequence[str], mixtures: Sequence[str], more: Iterable[str]
) -> RunTable:
    found, misfits = halves(sheet, MODEL, measured)
    parents = {str(_model(half.run).parent) for half in found if half.run}
    folders = _Folders.of(mixtures, parents, sheet.path)
    results = [
        Half(half.at, folders.key(half.run), _model(half.run).name, half.cells) for half in found
    ]
    scripts = folders.scripts()
    domains = sorted({*more, *(domain for _, _, weights, _ in scripts for domain in weights)})
    both = sorted(set(domains) & set(sheet.columns))
    if both:
        raise InputError(
            f"{sheet.path} has a column for {', '.join(both)}, which the mixture files name too: "
            "leave --mixtures out to take the weights from the columns"
        )
    sides = [
        Half(
            Place(str(path), 0),
            _key(round_, path.stem),
            path.stem,
            tuple(weights.get(domain, "0") for domain in domains),
            fault,
        )
        for round_, path, weights, fault in scripts
    ]
    rows, apart = join(sides, results)
    unused = [c for c in sheet.columns if c != MODEL and c not in measured]
    return RunTable(
        (sheet.path,),
        {domain: f"weight of {domain!r}" for domain in domains},
        labels("", measured),
        tuple(rows),
        (*misfits, *apart),
        tuple(c for c in unused if c),
    )


@dataclass(frozen=True)
class _Folders:
    """Which folders of scripts belong to which folder of results (a round)."""

    all: tuple[tuple[str, Path], ...]
    """Rounds with their folders of scripts."""

    rounds: Mapping[str, str]
    """Each folder of results, and its round."""

    @classmethod
    def of(cls, mixtures: Sequence[str], parents: Iterable[str], results: Path) -> _Folders:
        pairs = [_pair(text) for text in mixtures]
        parents = sorted(parents)
        if len(parents) > 1 and not all(round_ for round_, _ in pairs):
            raise InputError(
                f"{results}: its results come from {len(parents)} folders ({', '.join(parents)}), "
                "and run n1 of one is not n1 of another: name the mixtures of each, as in "
                f"--mixtures {PurePosixPath(parents[0]).name}=FOLDER"
            )
        rounds = {}
        for parent in parents:
            fits = {
                round_ for round_, _ in pairs if f"/{parent}".endswith(f"/{round_}".rstrip("/"))
            }
            if len(fits) != 1:
                raise InputError(
                    f"{results}: its results in {parent} fit "
                    + (" and ".join(map(repr, sorted(fits))) if fits else "none")
                    + f" of --mixtures {', '.join(mixtures)}; they must fit one"
                )
            rounds[parent] = fits.pop()
        return cls(tuple(pairs), rounds)

    def scripts(self) -> list[tuple[str, Path, dict[str, str], str]]:
        """Every script: its round, where it is, its weights, and what is wrong with it."""
        found = [
            (round_, path, *_script(path))
            for round_, folder in self.all
            for path in _listed(folder, "*.sh")
        ]
        if not found:
            folders = ", ".join(str(folder) for _, folder in self.all)
            raise InputError(f"{folders}: no mixture files (n1.sh, n2.sh, ...) there")
        return found

    def key(self, path: str) -> str:
        """What joins the results at a path with their script; empty for an empty path."""
        model = _model(path)
        return _key(self.rounds[str(model.parent)], model.name) if path else ""


def _pair(text: str) -> tuple[str, Path]:
    """`RESULTS=FOLDER`, or a folder for all results."""
    round_, equals, folder = text.partition("=")
    if Path(text).is_dir() or not equals:
        return "", Path(text)
    return round_.strip("/"), Path(folder)


def _key(round_: str, model: str) -> str:
    return f"{round_}/{model}" if round_ else model


def _model(path: str) -> PurePosixPath:
    return PurePosixPath(path)


def _listed(folder: Path, pattern: str) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder")
    return sorted(folder.glob(pattern))


def _script(path: Path) -> tuple[dict[str, str], str]:
    """Weights by domain as text, and what is wrong with the file (empty if nothing is)."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return {}, f"it cannot be read as text: {type(error).__name__}"
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(("#", "cat", "EOF")):
            continue
        weight, *rest = line.split(maxsplit=1)
        domain = PurePosixPath("".join(rest).strip()).name
        if not domain:
            return {}, f"line {number} holds {shown(line)}; it must be a weight and a path"
        pairs.append((domain, weight))
    twice = sorted(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    if twice:
        return {}, f"it names {twice[0]!r} twice"
    return dict(pairs), "" if pairs else "it names no domain"

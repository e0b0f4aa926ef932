"""`climb export`: write the mixture for a trainer, and check the shares that the trainer reads."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from climb.cli.start import add_config_options, import_jobs, run_jobs
from climb.config import load
from climb.errors import ConfigError, MixtureError
from climb.export.folder import follow_link
from climb.export.formats import FORMATS, find_format

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("export")
@click.option(
    "--to",
    metavar="FORMAT",
    help=f"The trainer's format: {', '.join(FORMATS)}; or module:Class of your own.",
)
@click.option("--out", type=FOLDER, help="Folder of the export; default: export.path.")
@click.option(
    "--kind", type=click.Choice(["mixed", "recipe"]),
    help="mixed: shuffled documents, each as often as the mixture requires; recipe: each document "
    "once, and weights. Default: depends on the format.",
)  # fmt: skip
@click.option("--tokenizer", type=click.Path(), help="A tokenizer.json, or a folder with one.")
@click.option("--verify", is_flag=True, help="Check the export with the trainer's own loader.")
@click.option(
    "--samples", type=click.IntRange(min=1), default=20_000, show_default=True,
    help="Number of samples that --verify reads.",
)  # fmt: skip
@click.option(
    "--python", default=sys.executable, help="Interpreter with the trainer's package, for --verify."
)
@click.option(
    "--mixture",
    type=FILE,
    help="BEST.csv of `climb recommend`; default: the recommendation of `climb search`.",
)
@click.option(
    "--prior", type=FILE, help="PRIOR.csv; needs column documents if the trainer counts documents."
)
@click.option("--data", type=FOLDER, help="Folder of your files, with a subfolder for each domain.")
@add_config_options
def export(
    to: str | None,
    out: Path | None,
    kind: str | None,
    tokenizer: str | None,
    verify: bool,
    samples: int,
    python: str,
    mixture: Path | None,
    prior: Path | None,
    data: Path | None,
    conf: tuple[str, ...],
    settings: tuple[str, ...],
) -> None:
    """Export the mixture in the format of a trainer.

    With --verify but not --to, check an existing export. With --mixture, --prior and --data, write
    an export that only names files of your own and gives weights: the trainer reads these files.
    """
    chosen: dict[str, object] = {"kind": kind, "tokenizer": tokenizer, "path": out}
    chosen["format"] = None if to is None else json.dumps(find_format(to))
    settings = (*settings, *(f"export.{k}={v}" for k, v in chosen.items() if v is not None))
    cfg = load(conf, settings)
    own = {"--mixture": mixture, "--prior": prior, "--data": data}
    given = [path for path in own.values() if path is not None]
    if len(given) == len(own):
        from climb.runs.export import export_own

        weights, tokens, files = given
        click.echo(export_own(weights, tokens, files, cfg))
    elif given:
        raise ConfigError(f"{', '.join(own)} must be used together; at least one is missing")
    elif to is not None or not verify:
        run_jobs(import_jobs(["export"]), conf, settings)
    elif kind is not None or tokenizer is not None:
        raise ConfigError(
            "--kind and --tokenizer need --to FORMAT, which writes the export again with them"
        )
    if verify:
        verify_export(follow_link(cfg.export_folder), samples, python)


def verify_export(folder: Path, n_samples: int, python: str) -> None:
    """Print what the trainer's loader delivers, and compare it with the mixture.

    Raises:
        InputError: the export is incomplete or was moved, or cannot be checked.
        MixtureError: the loader delivers other shares than the mixture, or cuts or joins documents.
    """
    from climb.export.check import compare_shares, format_result, format_written
    from climb.export.index import read_export
    from climb.export.loader import has_package, run_loader

    read = read_export(folder)
    read.check_files()
    format, contents = read.load_format(), read.contents
    by_rule = not format.loader or not has_package(python, format.loader)
    counted = run_loader(folder, n_samples, sys.executable if by_rule else python, by_rule)
    source = _name_source(format.loader, by_rule)
    if contents.kind == "mixed" and format.unit == "tokens":
        click.echo(format_written(contents, sum(own.samples for own in counted.values()), source))
        return
    result = compare_shares(contents, counted, format.unit == "tokens")
    click.echo(format_result(result, source))
    if result.other_lengths:
        raise MixtureError(
            f"{folder}: samples of {', '.join(result.other_lengths)} have other lengths than the "
            "documents of the export: the loader cuts or joins documents; report this"
        )
    if not result.arrived:
        worst = max(result.domains, key=lambda row: abs(row.delivered - row.wanted))
        raise MixtureError(
            f"{folder}: {worst.domain} should be {worst.wanted:.4f} of the tokens, but the loader "
            f"delivers {worst.delivered:.4f} (p = {result.p_value:.3g}); export it again, and "
            "report this if it happens again"
        )


def _name_source(loader: str, by_rule: bool) -> str:
    if not by_rule:
        return f"the loader of {loader}"
    if not loader:
        return "the files, read by the rules of the format"
    return (
        f"the files, read by the rules of the format (to use the trainer's loader, set "
        f"--python to an interpreter that has {loader})"
    )

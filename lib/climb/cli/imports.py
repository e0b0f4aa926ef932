"""`climb import`: convert runs of other projects to RUNS.csv."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from climb.errors import ConfigError

if TYPE_CHECKING:
    from climb.runs.importer import Prior

CSV = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)

IMPORT_OUT = click.option("--out", type=CSV, required=True, help="Output RUNS.csv.")
PRIOR_OUT = click.option(
    "--prior-out", type=CSV, help="Output PRIOR.csv, converted from the input of --prior."
)


@click.group("import")
def import_() -> None:
    """Convert runs of another project to RUNS.csv."""


def _read_prior(
    read: Callable[[Path], Mapping[str, float]], prior: Path | None, prior_out: Path | None
) -> Prior | None:
    if prior is None and prior_out is None:
        return None
    if prior is None or prior_out is None:
        missing = "--prior (the input)" if prior is None else "--prior-out (the output)"
        raise ConfigError(f"{missing} is missing; use --prior and --prior-out together, or neither")
    from climb.runs.importer import Prior

    return Prior(read(prior), prior, prior_out)


@import_.command("regmix")
@click.argument("mixtures", type=CSV)
@click.argument("losses", type=CSV)
@IMPORT_OUT
@click.option(
    "--prior", type=CSV, help="CSV with the columns domain and token_share, or RegMix's YAML file."
)
@PRIOR_OUT
def import_regmix(
    mixtures: Path, losses: Path, out: Path, prior: Path | None, prior_out: Path | None
) -> None:
    """Read RegMix's train_mixture_1m.csv and train_pile_loss_1m.csv."""
    from climb.runs import formats
    from climb.runs.importer import import_runs

    tokens = _read_prior(formats.read_regmix_prior, prior, prior_out)
    click.echo(import_runs(formats.read_regmix(mixtures, losses), out, tokens, "mean(*):min"))


@import_.command("olmix")
@click.argument("ratios", type=CSV)
@click.argument("metrics", type=CSV)
@IMPORT_OUT
@click.option(
    "--prior", type=CSV, help="YAML file of a fit, or JSON file of a swarm, with token_counts."
)
@PRIOR_OUT
def import_olmix(
    ratios: Path, metrics: Path, out: Path, prior: Path | None, prior_out: Path | None
) -> None:
    """Read Olmix's ratios.csv and metrics.csv."""
    from climb.runs import formats
    from climb.runs.importer import import_runs

    tokens = _read_prior(formats.read_olmix_prior, prior, prior_out)
    click.echo(import_runs(formats.read_olmix(ratios, metrics), out, tokens, "mean(*):min"))


@import_.command("nvidia")
@click.argument("results", type=CSV)
@click.option(
    "--mixtures",
    multiple=True,
    help="Folder of the scripts n1.sh, ... If there are several rounds, give this option once per "
    "round, as RESULTS=FOLDER: the folder of its results and the folder of its scripts.",
)
@click.option(
    "--metric", "metrics", multiple=True, help="Name of a further metric column; may be repeated."
)
@IMPORT_OUT
@click.option("--prior", type=FOLDER, help="Folder of the domains' token files <domain>.bin.")
@PRIOR_OUT
def import_nvidia(
    results: Path,
    mixtures: tuple[str, ...],
    metrics: tuple[str, ...],
    out: Path,
    prior: Path | None,
    prior_out: Path | None,
) -> None:
    """Read lm_harness_results.csv of NeMo Curator's CLIMB tutorial."""
    from climb.runs import curator
    from climb.runs.importer import import_runs

    tokens = _read_prior(curator.read_curator_prior, prior, prior_out)
    table = curator.read_curator(results, mixtures, metrics, tokens.amounts if tokens else ())
    click.echo(import_runs(table, out, tokens, "mean(*):max"))


@import_.command("csv")
@click.argument("runs", type=CSV)
@IMPORT_OUT
def import_csv(runs: Path, out: Path) -> None:
    """Read RUNS.csv, or a CSV file of climb's runs that MLflow wrote; drop invalid rows."""
    from climb.runs.importer import import_runs
    from climb.runs.table import read_table

    click.echo(import_runs(read_table(runs), out))


# `read_table` recognizes the CSV files of MLflow by their columns.
import_.add_command(import_csv, "mlflow")

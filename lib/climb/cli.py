"""The console script `climb`: the jobs, and commands for runs that somebody else made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from climb.config import Config, load, resolved_yaml
from climb.errors import ConfigError
from climb.run import PIPELINE, guarded, named, options, start

if TYPE_CHECKING:
    from climb.imported import Prior

CSV = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="climb-mixture")
def climb() -> None:
    """How much of each kind of text should a language model read?"""


def main() -> None:
    """Entry point of the console script."""
    guarded(climb)


@climb.command("run")
@options
def run_all(conf: str | None, settings: tuple[str, ...]) -> None:
    """Run all jobs in order, in one Spark session."""
    start(named(PIPELINE), conf, settings)


def _add_job(name: str) -> None:
    @climb.command(name, help=f"Run the job {name} (the same as jobs/{name}.py).")
    @options
    def job(conf: str | None, settings: tuple[str, ...]) -> None:
        start(named([name]), conf, settings)


for _name in (*PIPELINE, "train_scorer"):
    _add_job(_name)


@climb.command("config")
@options
@click.option("--schema", is_flag=True, help="Print the JSON schema instead.")
def config(conf: str | None, settings: tuple[str, ...], schema: bool) -> None:
    """Print the resolved configuration."""
    if schema:
        click.echo(json.dumps(Config.model_json_schema(), indent=2))
    else:
        click.echo(resolved_yaml(load(conf, settings)), nl=False)


@climb.command()
def doctor() -> None:
    """Say what this machine has and lacks, and the command that mends it."""
    from climb.doctor import doctor as checks

    found = checks()
    for check in found:
        click.echo(f"{'ok  ' if check.ok else 'MISS'} {check.name:<14} {check.found}")
        if not check.ok:
            click.echo(f"     mend: {check.mend}")
    if not all(check.ok for check in found):
        raise click.exceptions.Exit(1)


@climb.command()
@click.option("--runs", type=CSV, required=True, help="CSV of weight.<domain>, metric.<name>.")
@click.option("--mixtures", type=CSV, required=True, help="CSV of weight.<domain>.")
@click.option("--out", type=CSV, required=True)
@click.option("--objective", default="mean(*):min", show_default=True)
@options
def predict(
    runs: Path,
    mixtures: Path,
    out: Path,
    objective: str,
    conf: str | None,
    settings: tuple[str, ...],
) -> None:
    """Fit on runs that somebody made elsewhere, and predict other mixtures."""
    from climb import runs as csv_runs

    click.echo(csv_runs.predict(runs, mixtures, out, load(conf, settings).search, objective))


@climb.command()
@click.option("--runs", type=CSV, required=True)
@click.option("--prior", type=CSV, required=True, help="CSV of domain,tokens.")
@click.option("--n", type=click.IntRange(min=1), required=True, help="Mixtures wanted.")
@click.option("--out", type=CSV, required=True)
@click.option("--objective", default="mean(*):min", show_default=True)
@options
def propose(
    runs: Path,
    prior: Path,
    n: int,
    out: Path,
    objective: str,
    conf: str | None,
    settings: tuple[str, ...],
) -> None:
    """Propose the next mixtures to train."""
    from climb import runs as csv_runs

    click.echo(csv_runs.propose(runs, prior, out, n, load(conf, settings).search, objective))


@climb.command()
@click.option("--runs", type=CSV, required=True)
@click.option("--prior", type=CSV, required=True)
@click.option("--out", type=CSV, required=True)
@click.option("--objective", default="mean(*):min", show_default=True)
@click.option("--pareto", type=CSV, help="Also write the trade-offs between metrics to this CSV.")
@options
def recommend(
    runs: Path,
    prior: Path,
    out: Path,
    objective: str,
    pareto: Path | None,
    conf: str | None,
    settings: tuple[str, ...],
) -> None:
    """Recommend the best mixture, with its expected gain and an interval."""
    from climb import runs as csv_runs

    cfg = load(conf, settings).search
    click.echo(csv_runs.recommend(runs, prior, out, cfg, objective, pareto))


@climb.group("import")
def import_() -> None:
    """Turn runs of another project into RUNS.csv; every row left out is named and counted."""


def _prior(
    read: Callable[[Path], Mapping[str, float]], prior: Path | None, prior_out: Path | None
) -> Prior | None:
    if prior is None and prior_out is None:
        return None
    if prior is None or prior_out is None:
        raise ConfigError("--prior is read and --prior-out is written: give both, or neither")
    from climb.imported import Prior

    return Prior(read(prior), prior, prior_out)


OUT = click.option("--out", type=CSV, required=True, help="RUNS.csv to write.")
PRIOR_OUT = click.option("--prior-out", type=CSV, help="PRIOR.csv to write from --prior.")


@import_.command("regmix")
@click.argument("mixtures", type=CSV)
@click.argument("losses", type=CSV)
@OUT
@click.option("--prior", type=CSV, help="CSV of domain,token_share, or RegMix's YAML.")
@PRIOR_OUT
def import_regmix(
    mixtures: Path, losses: Path, out: Path, prior: Path | None, prior_out: Path | None
) -> None:
    """RegMix: train_mixture_1m.csv and train_pile_loss_1m.csv."""
    from climb import formats
    from climb.imported import import_runs

    known = _prior(formats.regmix_prior, prior, prior_out)
    click.echo(import_runs(formats.regmix(mixtures, losses), out, known, "mean(*):min"))


@import_.command("olmix")
@click.argument("ratios", type=CSV)
@click.argument("metrics", type=CSV)
@OUT
@click.option("--prior", type=CSV, help="A fit's YAML, or a swarm's JSON, with token_counts.")
@PRIOR_OUT
def import_olmix(
    ratios: Path, metrics: Path, out: Path, prior: Path | None, prior_out: Path | None
) -> None:
    """Olmix: ratios.csv and metrics.csv (bits per byte)."""
    from climb import formats
    from climb.imported import import_runs

    known = _prior(formats.olmix_prior, prior, prior_out)
    click.echo(import_runs(formats.olmix(ratios, metrics), out, known, "mean(*):min"))


@import_.command("nvidia")
@click.argument("results", type=CSV)
@click.option("--mixtures", multiple=True, help="Folder of n1.sh, ...; RESULTS=FOLDER per round.")
@click.option("--metric", "metrics", multiple=True, help="A further column that is a metric.")
@OUT
@click.option("--prior", type=FOLDER, help="Folder of the domains' .bin files.")
@PRIOR_OUT
def import_nvidia(
    results: Path,
    mixtures: tuple[str, ...],
    metrics: tuple[str, ...],
    out: Path,
    prior: Path | None,
    prior_out: Path | None,
) -> None:
    """NeMo Curator's CLIMB tutorial: lm_harness_results.csv, its mixtures in it or in scripts."""
    from climb import curator
    from climb.imported import import_runs

    known = _prior(curator.nvidia_prior, prior, prior_out)
    table = curator.nvidia(results, mixtures, metrics, known.amounts if known else ())
    click.echo(import_runs(table, out, known, "mean(*):max"))


@import_.command("csv")
@click.argument("runs", type=CSV)
@OUT
def import_csv(runs: Path, out: Path) -> None:
    """RUNS.csv itself, without the rows that cannot be used."""
    from climb import rows
    from climb.imported import import_runs

    click.echo(import_runs(rows.read_table(runs), out))

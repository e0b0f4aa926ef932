"""The console script `climb`: the jobs, and commands for runs that somebody else made."""

from __future__ import annotations

import json
from pathlib import Path

import click

from climb.config import Config, load, resolved_yaml
from climb.run import PIPELINE, guarded, named, options, start

CSV = click.Path(path_type=Path, dir_okay=False)


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
@options
def recommend(
    runs: Path, prior: Path, out: Path, objective: str, conf: str | None, settings: tuple[str, ...]
) -> None:
    """Recommend the best mixture, with its expected gain and an interval."""
    from climb import runs as csv_runs

    click.echo(csv_runs.recommend(runs, prior, out, load(conf, settings).search, objective))

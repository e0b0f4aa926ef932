"""The console script `climb`: the jobs, and the commands for runs in CSV files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from climb.cli.start import PIPELINE, add_config_options, import_jobs, run_command, run_jobs
from climb.config import Config, dump_yaml, load
from climb.errors import ConfigError

if TYPE_CHECKING:
    from climb.runs.importer import Prior

JOB_HELP = {
    "ingest": "Read and clean documents, and remove duplicates.",
    "count": "Count the tokens of every document.",
    "embed": "Embed every document.",
    "score": "Score the quality of every document.",
    "cluster": "Cluster the documents by their embeddings.",
    "prune": "Drop low-quality clusters, and merge the rest into domains.",
    "pack": "Pack tokens of every domain into shards for training.",
    "search": "Search for the best mixture by training small proxy models.",
    "mix": "Write the dataset of the recommended mixture.",
    "train": "Train a larger model to test the recommended mixture.",
    "report": "Write the HTML report.",
    "train_scorer": "Train a quality scorer from labelled texts.",
}

CSV = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)

RUNS = click.option(
    "--runs",
    type=CSV,
    required=True,
    multiple=True,
    help="Input CSV, one run per row, columns weight.<domain> and metric.<name>. Repeat it for "
    "other people's runs: they count as far as they help to predict the runs of the first file.",
)
PRIOR = click.option(
    "--prior", type=CSV, required=True, help="Input CSV with the columns domain and tokens."
)
OBJECTIVE = click.option(
    "--objective",
    default="mean(*):min",
    show_default=True,
    help="Metrics to minimize or maximize, for example '0.7*arc:max + 0.3*piqa:max'.",
)
IMPORT_OUT = click.option("--out", type=CSV, required=True, help="Output RUNS.csv.")
PRIOR_OUT = click.option(
    "--prior-out", type=CSV, help="Output PRIOR.csv, converted from the input of --prior."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="climb-mixture")
def climb() -> None:
    """Find the best mixture of text for pretraining a language model."""


def main() -> None:
    """Run the console script."""
    run_command(climb)


@climb.command("run")
@add_config_options
def run_all(conf: str | None, settings: tuple[str, ...]) -> None:
    """Run all jobs in order, in one Spark session."""
    run_jobs(import_jobs(PIPELINE), conf, settings)


def _add_job(name: str) -> None:
    @climb.command(name, help=JOB_HELP[name])
    @add_config_options
    def job(conf: str | None, settings: tuple[str, ...]) -> None:
        run_jobs(import_jobs([name]), conf, settings)


for _name in (*PIPELINE, "train_scorer"):
    _add_job(_name)


@climb.command("config")
@add_config_options
@click.option("--schema", is_flag=True, help="Print the JSON schema of the configuration instead.")
def config(conf: str | None, settings: tuple[str, ...], schema: bool) -> None:
    """Print the resolved configuration as YAML."""
    if schema:
        click.echo(json.dumps(Config.model_json_schema(), indent=2))
    else:
        click.echo(dump_yaml(load(conf, settings)), nl=False)


@climb.command()
def doctor() -> None:
    """Check this machine, and print how to fix each problem."""
    from climb.cli.doctor import check_machine

    checks = check_machine()
    for check in checks:
        click.echo(f"{'ok  ' if check.ok else 'FAIL'} {check.name:<19} {check.found}")
        if not check.ok:
            click.echo(f"     fix: {check.fix}")
    if not all(check.ok for check in checks):
        raise click.exceptions.Exit(1)


@climb.command()
@RUNS
@click.option(
    "--mixtures",
    type=CSV,
    required=True,
    help="Input CSV, one mixture per row, columns weight.<domain>.",
)
@click.option("--out", type=CSV, required=True, help="Output CSV with the predicted metrics.")
@OBJECTIVE
@add_config_options
def predict(
    runs: tuple[Path, ...],
    mixtures: Path,
    out: Path,
    objective: str,
    conf: str | None,
    settings: tuple[str, ...],
) -> None:
    """Predict the metrics of other mixtures from runs."""
    from climb.runs import commands as csv_runs

    click.echo(csv_runs.predict(runs, mixtures, out, load(conf, settings).search, objective))


@climb.command()
@RUNS
@PRIOR
@click.option("--n", type=click.IntRange(min=1), required=True, help="Number of mixtures.")
@click.option("--out", type=CSV, required=True, help="Output CSV with the mixtures to train.")
@OBJECTIVE
@add_config_options
def propose(
    runs: tuple[Path, ...],
    prior: Path,
    n: int,
    out: Path,
    objective: str,
    conf: str | None,
    settings: tuple[str, ...],
) -> None:
    """Propose the next mixtures to train."""
    from climb.runs import commands as csv_runs

    click.echo(csv_runs.propose(runs, prior, out, n, load(conf, settings).search, objective))


@climb.command()
@RUNS
@PRIOR
@click.option(
    "--out",
    type=CSV,
    required=True,
    help="Output CSV with the mixture; details go to a JSON file of the same name.",
)
@OBJECTIVE
@click.option("--pareto", type=CSV, help="Output CSV with the Pareto front of the metrics.")
@add_config_options
def recommend(
    runs: tuple[Path, ...],
    prior: Path,
    out: Path,
    objective: str,
    pareto: Path | None,
    conf: str | None,
    settings: tuple[str, ...],
) -> None:
    """Recommend the best mixture, with its expected gain."""
    from climb.runs import commands as csv_runs

    cfg = load(conf, settings).search
    click.echo(csv_runs.recommend(runs, prior, out, cfg, objective, pareto))


@climb.group("import")
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
    help="Folder of the scripts n1.sh, ...; with several rounds RESULTS=FOLDER, once per round.",
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
    """Read a RUNS.csv, or MLflow's CSV file of runs that climb logged; drop invalid rows."""
    from climb.runs.importer import import_runs
    from climb.runs.table import read_table

    click.echo(import_runs(read_table(runs), out))


# `read_table` recognizes the CSV files of MLflow by their columns.
import_.add_command(import_csv, "mlflow")

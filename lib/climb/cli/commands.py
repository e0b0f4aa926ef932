"""The console script `climb`: the jobs, and the commands for runs in CSV files."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from climb.cli.compare import ablate, compare
from climb.cli.estimate import POSITIVE, estimate
from climb.cli.export import export
from climb.cli.finished.plan import describe_plan
from climb.cli.imports import CSV, import_
from climb.cli.preflight import run_preflight
from climb.cli.start import PIPELINE, add_config_options, import_jobs, run_command, run_jobs
from climb.cli.upkeep import cluster, maintain, remove
from climb.config import Config, dump_yaml, load
from climb.errors import ConfigError
from climb.progress import show_stages

if TYPE_CHECKING:
    from climb.config.sections import SearchConfig
    from climb.runs.sets import RunFiles

JOB_HELP = {
    "ingest": "Read and clean documents, and remove duplicates.",
    "count": "Count the tokens of every document.",
    "embed": "Embed every document.",
    "score": "Score the quality of every document.",
    "prune": "Drop low-quality clusters, and merge the kept clusters into domains.",
    "pack": "Pack tokens of every domain into shards for training.",
    "base": "Train the checkpoint that all proxies continue.",
    "search": "Search for the best mixture by training small proxy models.",
    "doremi": "Compute the mixture of DoReMi, a baseline, with a reference model and a proxy.",
    "mix": "Write the dataset of the recommended mixture.",
    "target_base": "Train the checkpoint that all target models continue.",
    "train": "Train a larger model to test the recommended mixture.",
    "report": "Write the HTML report.",
    "train_scorer": "Train a quality scorer from labelled texts.",
    "contamination": "Find documents that contain evaluation items; drop them on request.",
    "probe": "Test what the platform supports: files, tables, GPUs, packages.",
}

RUNS = click.option(
    "--runs",
    type=CSV,
    required=True,
    multiple=True,
    help="Input CSV, one run per row, columns weight.<domain> and metric.<name>. Repeat "
    "--runs for other people's runs. Their runs are used only if they help to predict those of the "
    "first file.",
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


def add_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --runs, --params and --tokens to a command, which gets them as its argument `runs`."""

    @functools.wraps(command)
    def wrapped(
        runs: tuple[Path, ...], params: float | None, tokens: float | None, **arguments: Any
    ) -> None:
        from climb.runs.sets import RunFiles, Target

        conf = [Path(path) for path in arguments["conf"]]
        command(runs=RunFiles(runs, Target(params, tokens), conf), **arguments)

    for name, text in (
        (
            "--tokens",
            "Training tokens to predict for; default: the maximum in runs of the size --params.",
        ),
        ("--params", "Model size to predict for, in parameters; default: the largest size."),
    ):
        wrapped = click.option(name, type=POSITIVE, help=text)(wrapped)
    return RUNS(wrapped)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="climb-mixture")
def climb() -> None:
    """Find the best mixture of text for pretraining a language model."""


def main() -> None:
    """Run the console script."""
    run_command(climb)


@climb.command("run")
@add_config_options
@click.option(
    "--dry-run", is_flag=True, help="Only print which jobs would run and why; nothing is started."
)
def run_all(conf: tuple[str, ...], settings: tuple[str, ...], dry_run: bool) -> None:
    """Run all jobs in order, in one Spark session. Jobs that have nothing to do are skipped."""
    if dry_run:
        click.echo(describe_plan(PIPELINE, load(conf, settings)))
    else:
        run_jobs(import_jobs(PIPELINE), conf, settings, skip=True)


@climb.command("check")
@add_config_options
def check(conf: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Check, without Spark, that all jobs have what they need.

    Python packages are not checked: each job checks those of its own machine when it starts.
    """
    run_preflight(load(conf, settings), PIPELINE, packages=False)
    click.echo(f"nothing is missing for the {len(PIPELINE)} jobs of `climb run`")


def _add_job(name: str) -> None:
    @climb.command(name, help=JOB_HELP[name])
    @add_config_options
    def job(conf: tuple[str, ...], settings: tuple[str, ...]) -> None:
        run_jobs(import_jobs([name]), conf, settings)


for _name in JOB_HELP:
    _add_job(_name)


@climb.command("config")
@add_config_options
@click.option("--schema", is_flag=True, help="Print the JSON schema of the configuration instead.")
def config(conf: tuple[str, ...], settings: tuple[str, ...], schema: bool) -> None:
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
@add_run_options
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
    runs: RunFiles,
    mixtures: Path,
    out: Path,
    objective: str,
    conf: tuple[str, ...],
    settings: tuple[str, ...],
) -> None:
    """Predict the metrics of other mixtures from runs."""
    from climb.runs import commands as csv_runs

    cfg = load(conf, settings).search
    with show_stages():
        text = csv_runs.predict(runs, mixtures, out, cfg, objective)
    click.echo(text)


@climb.command()
@add_run_options
@PRIOR
@click.option("--n", type=click.IntRange(min=1), required=True, help="Number of mixtures.")
@click.option("--out", type=CSV, required=True, help="Output CSV with the mixtures to train.")
@OBJECTIVE
@add_config_options
def propose(
    runs: RunFiles,
    prior: Path,
    n: int,
    out: Path,
    objective: str,
    conf: tuple[str, ...],
    settings: tuple[str, ...],
) -> None:
    """Propose the next mixtures to train."""
    from climb.runs import commands as csv_runs

    cfg = _load_search(conf, settings, runs)
    with show_stages():
        text = csv_runs.propose(runs, prior, out, n, cfg, objective)
    click.echo(text)


@climb.command()
@add_run_options
@PRIOR
@click.option(
    "--out",
    type=CSV,
    required=True,
    help="Output CSV with the mixture; details go to a JSON file of the same name.",
)
@OBJECTIVE
@click.option("--pareto", type=CSV, help="Output CSV with the Pareto front of the metrics.")
@click.option(
    "--improve",
    metavar="METRIC=AMOUNT",
    help="Also find the smallest change of the natural mixture that improves METRIC by AMOUNT.",
)
@add_config_options
def recommend(
    runs: RunFiles,
    prior: Path,
    out: Path,
    objective: str,
    pareto: Path | None,
    improve: str | None,
    conf: tuple[str, ...],
    settings: tuple[str, ...],
) -> None:
    """Recommend the best mixture, with its expected gain."""
    from climb.runs import commands as csv_runs

    cfg = _load_search(conf, settings, runs)
    extras = csv_runs.Extras(pareto, _parse_improvement(improve) if improve else None)
    with show_stages():
        text = csv_runs.recommend(runs, prior, out, cfg, objective, extras)
    click.echo(text)


def _load_search(conf: tuple[str, ...], settings: tuple[str, ...], runs: RunFiles) -> SearchConfig:
    """Load section `search`; --tokens replaces the default of `search.target_tokens`."""
    tokens = runs.target.tokens
    asked = {} if tokens is None else {"target_tokens": max(1, round(tokens))}
    return load(conf, settings, {"search": asked}).search


def _parse_improvement(text: str) -> tuple[str, float]:
    metric, _, amount = text.rpartition("=")
    try:
        value = float(amount)
    except ValueError:
        value = 0.0
    if not metric or not 0.0 < value < math.inf:
        raise ConfigError(
            f"--improve is {text!r}; write a metric and an amount above 0, for example arc=0.01"
        )
    return metric, value


for _command in (import_, estimate, export, cluster, remove, maintain, compare, ablate):
    climb.add_command(_command)

"""`climb compare`, which compares methods, and `climb ablate`, which compares values of one key."""

from __future__ import annotations

import click

from climb.cli.start import PIPELINE, add_config_options, import_jobs, run_jobs
from climb.config import load
from climb.estimate.comparison import describe_comparison

UP_TO_PACK = PIPELINE[: PIPELINE.index("pack") + 1]
"""Jobs before a comparison; those that have nothing to do are skipped. Job `base` is left out: the
searches of the comparison train the base checkpoint themselves."""

DRY_RUN = click.option(
    "--dry-run", is_flag=True, help="Only print the methods, their trials, and the hours."
)
CORES = click.option(
    "--cores",
    type=click.IntRange(min=1),
    help="Number of cores of the machine; --dry-run then prints core-hours. Without --cores, it "
    "prints hours of H100 GPUs.",
)


@click.command("compare")
@click.option(
    "--vary",
    metavar="KEY",
    help="Compare the values of a key of section search, for example search.predictor, on the "
    "trials of the search; nothing is trained.",
)
@DRY_RUN
@CORES
@add_config_options
def compare(
    vary: str | None,
    dry_run: bool,
    cores: int | None,
    conf: tuple[str, ...],
    settings: tuple[str, ...],
) -> None:
    """Compare methods at equal budgets: train their target models with several seeds."""
    if vary is not None and dry_run:
        raise click.UsageError("--vary trains nothing: leave out --dry-run")
    if vary is not None:
        run_jobs(import_jobs(["compare"]), conf, (*settings, f"compare.vary={vary}"))
    else:
        _start("compare", conf, settings, cores, dry_run)


@click.command("ablate")
@DRY_RUN
@CORES
@add_config_options
def ablate(
    dry_run: bool, cores: int | None, conf: tuple[str, ...], settings: tuple[str, ...]
) -> None:
    """Compare several values of one key, with the whole method for each."""
    _start("ablate", conf, settings, cores, dry_run)


def _start(
    name: str, conf: tuple[str, ...], settings: tuple[str, ...], cores: int | None, dry_run: bool
) -> None:
    if dry_run:
        click.echo(describe_comparison(name, load(conf, settings), cores))
    else:
        run_jobs(import_jobs([*UP_TO_PACK, name]), conf, settings, skip=True)

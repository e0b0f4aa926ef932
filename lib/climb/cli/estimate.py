"""`climb estimate`: what a run will cost, before it is started."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from climb.cli.start import add_config_options
from climb.config import load
from climb.estimate import Machines, Workload, compute_estimate, load_rates
from climb.estimate.names import list_models, list_rates, parse_own
from climb.estimate.text import format_json, format_text
from climb.runs.output import write_text


class _Positive(click.FloatRange):
    """A finite number above 0."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


POSITIVE = _Positive(min=0, min_open=True)


@click.command("estimate")
@click.option("--documents", type=POSITIVE, required=True, help="Number of documents, such as 2e9.")
@click.option(
    "--tokens", type=POSITIVE, required=True,
    help="Number of tokens in all documents, for example 8e11.",
)  # fmt: skip
@click.option(
    "--bytes-per-token", type=POSITIVE,
    help="Bytes of text per token; default: the value of a measured corpus.",
)  # fmt: skip
@click.option("--cpu-price", type=POSITIVE, help="Price of an hour of a node without GPUs.")
@click.option("--gpu-price", type=POSITIVE, help="Price of an hour of a node with GPUs.")
@click.option(
    "--node-cores", type=click.IntRange(min=1), default=16, show_default=True,
    help="Cores of a node without GPUs.",
)  # fmt: skip
@click.option(
    "--node-gpus", type=click.IntRange(min=1), default=8, show_default=True,
    help="GPUs of a node with GPUs.",
)  # fmt: skip
@click.option(
    "--train-on", type=click.Choice(["gpu", "cpu"]), default="gpu", show_default=True,
    help="Where proxies and target models are trained.",
)  # fmt: skip
@click.option(
    "--rate", "given", multiple=True, metavar="NAME=VALUE",
    help="Replace a throughput; the output shows the names. May be repeated.",
)  # fmt: skip
@click.option(
    "--parameters", multiple=True, metavar="KEY=N",
    help="Number of parameters of a model, for example proxy.model=3.5e8; may be repeated.",
)  # fmt: skip
@click.option(
    "--own-trials", is_flag=True,
    help="Take the tokens per second of the proxies from the runs of tracking.uri (MLflow).",
)  # fmt: skip
@click.option("--json", "out", type=click.Path(path_type=Path), help="JSON file of the estimate.")
@add_config_options
def estimate(
    documents: float,
    tokens: float,
    bytes_per_token: float | None,
    cpu_price: float | None,
    gpu_price: float | None,
    node_cores: int,
    node_gpus: int,
    train_on: str,
    given: tuple[str, ...],
    parameters: tuple[str, ...],
    own_trials: bool,
    out: Path | None,
    conf: tuple[str, ...],
    settings: tuple[str, ...],
) -> None:
    """Estimate stages, sizes, node-hours and price of a run.

    A core-hour is an hour of one core, and a GPU-hour of one H100 (docs/scale.md).
    """
    cfg, rates = load(conf, settings), load_rates()
    if own_trials:
        from climb.tracking.speeds import read_trial_speed

        speed = read_trial_speed(cfg)
        own = dict.fromkeys(("base", "search"), speed.tokens_per_second)
        rates = rates.override(own, speed.source)
    rates = rates.override(parse_own("--rate", given, list_rates(cfg, rates)), "given with --rate")
    per_token = bytes_per_token or rates.find("bytes_per_token", "the size of the text").value
    result = compute_estimate(
        cfg,
        Workload(documents, tokens, per_token),
        Machines(node_cores, node_gpus, cpu_price, gpu_price, train_on == "gpu"),
        rates,
        parse_own("--parameters", parameters, list_models(cfg)),
    )
    click.echo(format_text(result))
    if out is not None:
        write_text(out, format_json(result) + "\n")
        click.echo(f"\n{out}")

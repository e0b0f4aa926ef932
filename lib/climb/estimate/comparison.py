"""What a comparison or an ablation trains, and how long that takes, before it is started."""

from __future__ import annotations

from collections.abc import Sequence

from climb.config import Config, build
from climb.errors import ConfigError
from climb.estimate.cost import HOUR
from climb.estimate.rates import load_rates
from climb.estimate.stage import Stage
from climb.estimate.training import count_mean_tokens, estimate_runs
from climb.search.comparison import Method, plan_ablation, plan_comparison


def describe_comparison(name: str, cfg: Config, cores: int | None) -> str:
    """Describe the methods and the cost of a comparison, as lines of text.

    Args:
        name: name of the job, compare or ablate.
        cfg: the configuration.
        cores: number of cores of the machine; None: models are trained on H100 GPUs.

    Raises:
        ConfigError: section `compare` or `ablate` is wrong, the size of a model is unknown, or no
            target has a `report` file.
    """
    is_ablation = name == "ablate"
    methods = plan_ablation(cfg) if is_ablation else plan_comparison(cfg)
    seeds = cfg.ablate.seeds if is_ablation else cfg.compare.seeds
    n_trials = seeds * sum(count_paid(method) for method in methods)
    most = (
        f"{seeds} seeds: {n_trials:g} trials and {seeds * len(methods)} target models at most; "
        "those that methods share are trained once"
    )
    stages = _estimate_stages(cfg, methods, seeds, cores is None)
    return "\n".join([*_list_methods(methods), "", most, "", *_list_stages(stages, cores)])


def _list_methods(methods: Sequence[Method]) -> list[str]:
    """Format a line per method: its trials, and how they are divided into rounds."""
    width = max(len(method.label) for method in methods)
    lines = [f"{'method':<{width}}  trials  rounds"]
    for method in methods:
        paid = count_paid(method)
        rounds = method.cfg.search.trials_per_round if method.mixture is None else ()
        shown = " + ".join(map(str, rounds)) or "-"
        if rounds and paid > sum(rounds):
            shown += f", and {paid - sum(rounds):g} of baselines and replicates"
        lines.append(f"{method.label:<{width}}  {paid:6g}  {shown}")
    return lines


def _list_stages(stages: Sequence[Stage], cores: int | None) -> list[str]:
    """Format a line per stage, and their sum."""
    unit = "GPU-hours" if cores is None else "core-hours"
    hours = [(s.gpu_seconds if cores is None else s.core_seconds) / HOUR for s in stages]
    lines = [
        f"{stage.name:<12} {n:10.3g} {unit}  {stage.work}"
        for stage, n in zip(stages, hours, strict=True)
    ]
    end = " (H100)" if cores is None else f", {sum(hours) / cores:.3g} h on {cores} cores"
    return [*lines, f"{'all':<12} {sum(hours):10.3g} {unit}{end}"]


def count_paid(method: Method) -> float:
    """Count the trials that a method pays for with each seed."""
    if method.mixture is None:
        return method.n_trials
    plugin: object = build(method.mixture, object, name=method.name)
    count = getattr(plugin, "count_trials", None)
    return 0.0 if count is None else float(count(method.cfg))


def _estimate_stages(
    cfg: Config, methods: Sequence[Method], seeds: int, on_gpu: bool
) -> list[Stage]:
    """Estimate base checkpoints, searches and target models."""
    rates = load_rates()
    given = (cfg, rates, dict[str, float](), on_gpu)
    if all(target.report is None for target in cfg.proxy.targets):
        raise ConfigError("no target has a `report` file; set `report` in proxy.targets")
    base = ("proxy.model", cfg.proxy.model, 1.0, cfg.proxy.base_tokens)
    searches = [
        estimate_runs(
            "search",
            ("proxy.model", m.cfg.proxy.model, seeds * count_paid(m), _tokens(m)),
            (m.cfg, rates, {}, on_gpu),
        )
        for m in methods
        if count_paid(m)
    ]
    tokens = sum(seeds * count_paid(m) * _tokens(m) for m in methods)
    search = Stage(
        "search",
        f"{tokens:.3g} tokens of trials",
        sum(stage.core_seconds for stage in searches),
        sum(stage.gpu_seconds for stage in searches),
    )
    n_models, train = float(seeds * len(methods)), cfg.train
    target_base = ("train.model", train.model, 1.0, train.base_tokens)
    models = ("train.model", train.model, n_models, train.tokens)
    return [
        estimate_runs("base", base, given),
        search,
        estimate_runs("target_base", target_base, given),
        estimate_runs("train", models, given),
    ]


def _tokens(method: Method) -> int:
    """Return the mean tokens of a method's trials; a plug-in trains each of its trials in full."""
    if method.mixture is not None:
        return method.cfg.proxy.trial_tokens
    return round(count_mean_tokens(method.cfg))

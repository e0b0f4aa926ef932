"""What a comparison or an ablation trains, and how long that takes, before it is started."""

from __future__ import annotations

from climb.config import Config, build
from climb.errors import ConfigError
from climb.estimate.rates import Rates, load_rates
from climb.estimate.stage import Stage
from climb.estimate.training import count_mean_tokens, estimate_runs
from climb.search.comparison import Method, plan_ablation, plan_comparison

HOUR = 3600.0


def describe_comparison(name: str, cfg: Config, cores: int | None) -> str:
    """Describe the methods and the cost of a comparison, as lines of text.

    Args:
        name: of the job, compare or ablate.
        cfg: the configuration.
        cores: of the machine; None: models are trained on H100 GPUs.

    Raises:
        ConfigError: the section is wrong, or the size of a model is unknown.
    """
    is_ablation = name == "ablate"
    methods = plan_ablation(cfg) if is_ablation else plan_comparison(cfg)
    seeds = cfg.ablate.seeds if is_ablation else cfg.compare.seeds
    rates, on_gpu = load_rates(), cores is None
    trials = {method.name: count_paid(method) for method in methods}
    width = max(len(method.label) for method in methods)
    lines = [f"{'method':<{width}}  trials  rounds"]
    for method in methods:
        rounds = method.cfg.search.trials_per_round if method.mixture is None else ()
        shown = " + ".join(map(str, rounds)) or "-"
        replicates = trials[method.name] - sum(rounds)
        if rounds and replicates:
            shown += f", and {replicates:g} of baselines and replicates"
        lines.append(f"{method.label:<{width}}  {trials[method.name]:6g}  {shown}")
    n_models = seeds * len(methods)
    lines += [
        "",
        f"{seeds} seeds: {seeds * sum(trials.values()):g} trials and {n_models} target models at "
        "most; those that methods share are trained once",
        "",
    ]
    stages = _estimate_stages(cfg, methods, seeds, rates, on_gpu)
    for stage in stages:
        seconds = stage.gpu_seconds if on_gpu else stage.core_seconds
        unit = "GPU-hours" if on_gpu else "core-hours"
        lines.append(f"{stage.name:<12} {seconds / HOUR:10.3g} {unit}  {stage.work}")
    seconds = sum(s.gpu_seconds if on_gpu else s.core_seconds for s in stages)
    if cores is None:
        lines.append(f"{'all':<12} {seconds / HOUR:10.3g} GPU-hours (H100)")
    else:
        hours = seconds / cores / HOUR
        lines.append(
            f"{'all':<12} {seconds / HOUR:10.3g} core-hours, {hours:.3g} h on {cores} cores"
        )
    return "\n".join(lines)


def count_paid(method: Method) -> float:
    """Count the trials that a method pays for with each seed."""
    if method.mixture is None:
        return method.n_trials
    plugin: object = build(method.mixture, object, name=method.name)
    count = getattr(plugin, "count_trials", None)
    return 0.0 if count is None else float(count(method.cfg))


def _estimate_stages(
    cfg: Config, methods: list[Method], seeds: int, rates: Rates, on_gpu: bool
) -> list[Stage]:
    """Estimate base checkpoints, searches and target models."""
    given = (cfg, rates, {}, on_gpu)
    if all(target.report is None for target in cfg.proxy.targets):
        raise ConfigError("no target has a `report` file; set proxy.targets")
    runs = [("base", "proxy.model", cfg.proxy.model, 1.0, cfg.proxy.base_tokens)]
    stages = [estimate_runs("base", run[1:], given) for run in runs]
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
    stages.append(
        Stage(
            "search",
            f"{tokens:.3g} tokens of trials",
            sum(s.core_seconds for s in searches),
            sum(s.gpu_seconds for s in searches),
        )
    )
    n_models = float(seeds * len(methods))
    train = cfg.train
    target_base = ("train.model", train.model, 1.0, train.base_tokens)
    stages.append(estimate_runs("target_base", target_base, given))
    stages.append(
        estimate_runs("train", ("train.model", train.model, n_models, train.tokens), given)
    )
    return stages


def _tokens(method: Method) -> int:
    """Return the tokens of a trial of a method, as a mean."""
    return round(count_mean_tokens(method.cfg))

"""What a comparison or an ablation trains, and how long that takes, before it is started."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from climb.config import Config, build
from climb.config.proxy import ProxyConfig
from climb.config.results import TrainConfig
from climb.errors import ConfigError
from climb.estimate.cost import HOUR
from climb.estimate.rates import Rates, load_rates
from climb.estimate.stage import Stage
from climb.estimate.training import (
    DOREMI_WORK,
    count_component_tokens,
    count_doremi_tokens,
    count_mean_tokens,
    estimate_runs,
)
from climb.search.comparison import Method, plan_ablation, plan_comparison

Given = tuple[Config, Rates, Mapping[str, float], bool]
"""What `estimate_runs` needs besides the runs."""


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
        "trials and models that methods share are trained once"
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
    """Count the trials of a method for each seed, including trials shared with other methods."""
    if method.mixture is None:
        return method.n_trials
    plugin: object = build(method.mixture, object, name=method.name)
    count = getattr(plugin, "count_trials", None)
    return 0.0 if count is None else float(count(method.cfg))


def _estimate_stages(
    cfg: Config, methods: Sequence[Method], seeds: int, on_gpu: bool
) -> list[Stage]:
    """Estimate base checkpoints, searches and target models."""
    if all(target.report is None for target in cfg.proxy.targets):
        raise ConfigError("no target has a `report` file; set `report` in proxy.targets")
    given = (cfg, load_rates(), dict[str, float](), on_gpu)
    searching = [m for m in methods if count_paid(m)]  # the others train no proxies
    bases = {_identify_base(m, m.cfg.proxy): m for m in searching}
    targets = {_identify_base(m, m.cfg.train, m.cfg.train.processes) for m in methods}
    train, n_models = cfg.train, float(seeds * len(methods))
    # A base checkpoint of target models is trained only if it differs from those of the proxies.
    n_targets = float(len(targets - bases.keys()))
    target_base = Stage("target_base", "nothing: it is the checkpoint of `base`")
    if n_targets:
        run = ("train.model", train.model, n_targets, train.base_tokens)
        target_base = estimate_runs("target_base", run, given)
    return [
        _estimate_bases(list(bases.values()), given),
        _estimate_searches(methods, seeds, given),
        target_base,
        estimate_runs("train", ("train.model", train.model, n_models, train.tokens), given),
    ]


def _identify_base(
    method: Method, cfg: ProxyConfig | TrainConfig, processes: int = 1
) -> tuple[str, ...]:
    """Identify a base checkpoint by domains, model, tokens and number of processes."""
    model = json.dumps(cfg.model, sort_keys=True)
    return (_own_domains(method), model, str(cfg.base_tokens), str(processes))


def _own_domains(method: Method) -> str:
    """Return the method's name if the method has its own domains; otherwise an empty string."""
    return method.name if method.first_job in ("cluster", "prune") else ""


def _estimate_bases(methods: Sequence[Method], given: Given) -> Stage:
    """Estimate the base checkpoints of the proxies of these methods."""
    models = [(m.cfg.proxy.model, m.cfg.proxy.base_tokens) for m in methods]
    parts = [estimate_runs("base", ("proxy.model", m, 1.0, n), given) for m, n in models]
    work = parts[0].work if len(parts) == 1 else f"{len(parts)} checkpoints"
    return _add_up("base", work if parts else "nothing: no method trains proxies", parts)


def _estimate_searches(methods: Sequence[Method], seeds: int, given: Given) -> Stage:
    """Estimate searches: the trials of each seed, and the models of `_list_extra`.

    All seeds share the models of `_list_extra`, so these are counted once.
    """
    tokens, parts = 0.0, list[Stage]()
    for m in methods:
        if n := seeds * count_paid(m):
            tokens += n * _tokens(m)
            run = ("proxy.model", m.cfg.proxy.model, n, _tokens(m))
            parts.append(estimate_runs("search", run, (m.cfg, *given[1:])))
    extra = _list_extra(methods)
    for m, n_tokens in extra.values():
        run = ("proxy.model", m.cfg.proxy.model, 1.0, round(n_tokens))
        parts.append(estimate_runs("search", run, (m.cfg, *given[1:])))
    work = f"{tokens:.3g} tokens of trials"
    if extra:
        n_tokens = sum(n for _, n in extra.values())
        work += f", {n_tokens:.3g} of DoReMi and of components of fidelities"
    if any(m.cfg.search.fidelities and m.cfg.prune.domains is None for m in methods):
        work += "; components are not counted: set prune.domains"
    return _add_up("search", work, parts)


def _list_extra(methods: Sequence[Method]) -> dict[tuple[str, ...], tuple[Method, float]]:
    """List the models that searches train besides their trials; sum the tokens of each kind.

    These are the models of DoReMi, and the components of fidelities: models that are each trained
    on one domain (`Fidelity.component_tokens`). The tokens of DoReMi are multiplied by
    `DOREMI_WORK`. These models do not depend on the seed of the search, so the searches of all
    seeds share them. Searches with the same proxy, domains and tokens share them too.
    """
    found = dict[tuple[str, ...], tuple[Method, float]]()
    for m in methods:
        if m.mixture is None:
            extra = (DOREMI_WORK * count_doremi_tokens(m.cfg), count_component_tokens(m.cfg))
            for kind, tokens in zip(("doremi", "components"), extra, strict=True):
                proxy = m.cfg.proxy.model_dump_json()
                if tokens:
                    found[kind, _own_domains(m), proxy, f"{tokens:g}"] = (m, tokens)
    return found


def _add_up(name: str, work: str, parts: Sequence[Stage]) -> Stage:
    """Add up the seconds of the parts of a stage."""
    seconds = [(part.core_seconds, part.gpu_seconds) for part in parts]
    return Stage(name, work, sum(cores for cores, _ in seconds), sum(gpus for _, gpus in seconds))


def _tokens(method: Method) -> int:
    """Return the mean tokens of a method's trials.

    If a plug-in makes the method's mixture, all trials are trained in full, so the mean is
    `proxy.trial_tokens`. In a search, successive halving may stop trials early, which lowers the
    mean.
    """
    if method.mixture is not None:
        return method.cfg.proxy.trial_tokens
    return round(count_mean_tokens(method.cfg))

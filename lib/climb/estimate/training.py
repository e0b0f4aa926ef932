"""Work of the stages that pack tokens, train models and write the dataset."""

from __future__ import annotations

from collections.abc import Mapping

from climb.config import Config, build
from climb.config.section import PluginSpec
from climb.estimate.corpus import cite, find_fixed
from climb.estimate.models import count_parameters, count_vocabulary
from climb.estimate.rates import Rates
from climb.estimate.stage import Stage, Workload
from climb.fidelity import Fidelity
from climb.search.baselines import needs_doremi
from climb.search.comparison import count_trials
from climb.search.halving import count_full_trials

ALL_KEPT = "assumes that no cluster is pruned, so this is an upper bound"

AS_PRUNE = "assumes that this stage counts a document in the same time as stage prune"

ONE_CORE = ("search", "train")
"""Stages in which each run has one core if there are no GPUs. The other stages that train models
train a base checkpoint on all cores of the machine. A small model uses several cores poorly. So
these other stages reach a lower rate per core than the stages in `ONE_CORE`."""

DOREMI_WORK = 4 / 3
"""Work of DoReMi, divided by the work of trials with the same number of tokens. DoReMi's reference
model reads half of the tokens. Each of these tokens costs as much work as a token of a trial.
DoReMi's proxy reads the other half. Each of its tokens costs 5/3 as much, because it needs two more
forward passes: one of the proxy and one of the reference model."""


def estimate_training(
    cfg: Config, workload: Workload, rates: Rates, parameters: Mapping[str, float], on_gpu: bool
) -> list[Stage]:
    """Estimate pack, base, search, mix, target_base, train and report.

    Args:
        cfg: the configuration.
        workload: the corpus.
        rates: throughputs.
        parameters: key of a model -> its number of parameters, if the user sets it.
        on_gpu: whether models are trained on GPUs.

    Raises:
        ConfigError: a throughput or the size of a model is unknown.
    """
    mean_tokens, n_models = count_mean_tokens(cfg), count_models(cfg)
    n_trials = count_trials(cfg.search) + count_extra_tokens(cfg) / mean_tokens
    proxy, train = cfg.proxy, cfg.train
    runs = {
        "base": ("proxy.model", proxy.model, 1, proxy.base_tokens),
        "search": ("proxy.model", proxy.model, n_trials, round(mean_tokens)),
        "target_base": ("train.model", train.model, min(1, n_models), train.base_tokens),
        "train": ("train.model", train.model, n_models, train.tokens),
    }
    given = (cfg, rates, parameters, on_gpu)
    trained = {name: estimate_runs(name, run, given) for name, run in runs.items()}
    if shares_base(cfg):
        fixed = find_fixed("target_base", rates)
        trained["target_base"] = Stage(
            "target_base", "nothing: it is the checkpoint of `base`", fixed_seconds=fixed
        )
    return [
        _estimate_pack(cfg, workload, rates),
        trained["base"],
        trained["search"],
        _estimate_mix(cfg, workload, rates),
        trained["target_base"],
        trained["train"],
        Stage("report", "small tables", fixed_seconds=find_fixed("report", rates)),
    ]


def shares_base(cfg: Config) -> bool:
    """Whether the target models continue the base checkpoint of the proxies.

    They do so under two conditions. The base checkpoint that they need has the same model and the
    same number of tokens as that of the proxies, and they are trained in one process, as proxies
    are. Several processes round gradients differently. So target models that are trained in several
    processes have a base checkpoint of their own.
    """
    proxy, train = cfg.proxy, cfg.train
    return (proxy.model, proxy.base_tokens, 1) == (train.model, train.base_tokens, train.processes)


def count_extra_tokens(cfg: Config) -> float:
    """Count the tokens of a search's models other than trials, weighted by work per token."""
    return count_component_tokens(cfg) + DOREMI_WORK * count_doremi_tokens(cfg)


def count_component_tokens(cfg: Config) -> float:
    """Count the tokens of the components of all fidelities; 0 if `prune.domains` is not set."""
    tokens = sum(build(spec, Fidelity).component_tokens for spec in cfg.search.fidelities)
    return float(tokens * (cfg.prune.domains or 0))


def count_components(cfg: Config) -> int:
    """Count the components of all fidelities; 0 if `prune.domains` is not set."""
    fidelities: list[Fidelity] = [build(spec, Fidelity) for spec in cfg.search.fidelities]
    return sum(f.component_tokens > 0 for f in fidelities) * (cfg.prune.domains or 0)


def count_doremi_tokens(cfg: Config) -> int:
    """Count the tokens of DoReMi's models; 0 if DoReMi is no baseline of the search."""
    if not needs_doremi(cfg.search.baselines):
        return 0
    return cfg.doremi.count_trials(cfg.search.trials_per_round) * cfg.proxy.trial_tokens


def count_mean_tokens(cfg: Config) -> float:
    """Compute the mean tokens of the search's trials; successive halving stops some early."""
    rungs = [(rung.share, rung.keep) for rung in cfg.search.halving]
    proposals = cfg.search.trials_per_round
    saved = sum(n - count_full_trials(n, rungs) for n in proposals)
    return cfg.proxy.trial_tokens * (1.0 - saved / count_trials(cfg.search))


def count_models(cfg: Config) -> int:
    """Count the target models: the recommendation and the baselines, each with every seed.

    Target models are evaluated on the `report` files of `proxy.targets`. So if entries of
    `proxy.targets` are configured and none has a `report` file, no target model is trained. If no
    entry is configured, the user is assumed to add entries with `report` files in another --conf
    file, because a search needs them.
    """
    if cfg.proxy.targets and all(target.report is None for target in cfg.proxy.targets):
        return 0
    return cfg.train.seeds * (1 + len(cfg.search.baselines))


def count_packed_tokens(cfg: Config, workload: Workload) -> float:
    """Count the tokens of the shards of all kinds, as `pack` plans them.

    If `proxy.match_repetition` is false, a trial can read all of its tokens from one domain. So the
    shard of every domain then has as many tokens as a trial. The number of domains is
    `prune.domains`; if this is not set, the upper bound `cluster.k` is used.
    """
    target = float(cfg.search.target_tokens)
    most = cfg.proxy.trial_tokens * (cfg.prune.domains or cfg.cluster.k)
    shares = [
        cfg.proxy.base_tokens / workload.tokens,
        cfg.proxy.trial_tokens / target if cfg.proxy.match_repetition else most / workload.tokens,
        cfg.train.base_tokens / workload.tokens,
        cfg.train.tokens / target,
    ]
    return sum(workload.tokens * min(1.0, share) for share in shares)


def count_mixed_tokens(cfg: Config) -> float:
    """Count the tokens of the mixed dataset."""
    return float(cfg.mix.tokens or cfg.search.target_tokens)


def estimate_runs(
    name: str,
    run: tuple[str, PluginSpec, float, int],
    given: tuple[Config, Rates, Mapping[str, float], bool],
) -> Stage:
    """Estimate training runs: 6 operations per parameter and token."""
    key, spec, n, tokens = run
    cfg, rates, parameters, on_gpu = given
    if n == 0:
        return Stage(name, "nothing: no target has a `report` file")
    size = count_parameters(key, spec, count_vocabulary(cfg), parameters)
    operations = 6.0 * size.parameters * tokens * n
    work = f"{n:g} x {tokens:.3g} tokens, {size.parameters:.3g} parameters"
    notes: tuple[str, ...] = (f"parameters of {key} from {size.source}",)
    if name == "search" and cfg.search.fidelities and cfg.prune.domains is None:
        notes += ("components of search.fidelities are not counted; set prune.domains",)
    if name == "search" and needs_doremi(cfg.search.baselines):
        notes += ("the two models of DoReMi are trained one after the other, on one device each",)
    fixed = find_fixed(name, rates)
    if name in rates.by_name:  # the user's rate, in tokens per second
        rate = rates.by_name[name]
        seconds = n * tokens / rate.value
        cores, gpus = (0.0, seconds) if on_gpu else (seconds, 0.0)
        return Stage(name, work, cores, gpus, fixed, (cite(rate),), notes)
    if not on_gpu:
        speed, sources = _find_core_speed(name, rates, size.parameters)
        return Stage(name, work, operations / speed, 0.0, fixed, sources, notes)
    efficiency, device = rates.efficiency["train"], rates.find("gpu.h100", f"stage {name}")
    share = efficiency.at(size.parameters)
    sources = (cite(device), f"{share:.0%} of this rate: {efficiency.source}")
    return Stage(name, work, 0.0, operations / (share * device.value), fixed, sources, notes)


def _find_core_speed(name: str, rates: Rates, parameters: float) -> tuple[float, tuple[str, ...]]:
    """Return the rate at which a stage trains models of this size on a core, and its sources.

    The rate is in operations per core-second. Small matrices leave a core idle, so larger models
    reach a higher rate.
    """
    rate = rates.find("trial.cpu" if name in ONE_CORE else "train.cpu", f"stage {name}")
    efficiency = rates.efficiency.get(rate.name)
    if efficiency is None:  # the user's figure is for their model
        return rate.value, (cite(rate),)
    factor = efficiency.at(parameters)
    return rate.value * factor, (cite(rate), f"{factor:.2g} times this rate: {efficiency.source}")


def _estimate_pack(cfg: Config, workload: Workload, rates: Rates) -> Stage:
    """Estimate the shards; before they are written, all documents are ordered and counted."""
    rate, tokens = rates.find("pack", "stage pack"), count_packed_tokens(cfg, workload)
    per_document = rates.find("prune", "stage pack")
    return Stage(
        "pack",
        f"{tokens:.3g} tokens of shards; {workload.documents:.3g} documents counted",
        core_seconds=tokens / rate.value + workload.documents / per_document.value,
        fixed_seconds=find_fixed("pack", rates),
        sources=(cite(rate), cite(per_document)),
        notes=(ALL_KEPT, AS_PRUNE),
    )


def _estimate_mix(cfg: Config, workload: Workload, rates: Rates) -> Stage:
    """Estimate the dataset; its text is written twice, to table `corpus` and to files.

    Before that, all documents are ordered and counted.
    """
    rate, per_document = rates.find("mix", "stage mix"), rates.find("prune", "stage mix")
    written = count_mixed_tokens(cfg) * workload.bytes_per_token
    once = "assumes that table corpus has the texts, so this is an upper bound"
    return Stage(
        "mix",
        f"{written / 1e12:.3g} TB of text; {workload.documents:.3g} documents counted",
        core_seconds=written / rate.value + workload.documents / per_document.value,
        fixed_seconds=find_fixed("mix", rates),
        sources=(cite(rate), cite(per_document)),
        notes=(AS_PRUNE,) if cfg.mix.text else (AS_PRUNE, once),
    )

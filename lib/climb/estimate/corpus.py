"""Work of the stages from ingest to prune."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from climb.config import Config
from climb.config.section import PluginSpec
from climb.embed import build_embedder
from climb.errors import ConfigError
from climb.estimate.models import count_parameters, count_vocabulary
from climb.estimate.names import name_rate
from climb.estimate.rates import Rate, Rates
from climb.estimate.stage import Stage, Workload

SCORED_TOKENS = 512
"""Tokens of a document that a transformer scorer is assumed to read if max_tokens is not set."""


def estimate_corpus(
    cfg: Config, workload: Workload, rates: Rates, parameters: Mapping[str, float]
) -> list[Stage]:
    """Estimate ingest, count, embed, score, cluster and prune.

    Args:
        cfg: the configuration.
        workload: the corpus.
        rates: throughputs.
        parameters: key of a model -> its number of parameters, if the user sets it.

    Raises:
        ConfigError: a throughput or the size of a model is unknown.
    """
    embed = _estimate_embed(cfg, workload, rates, parameters)
    cluster = _estimate_cluster(cfg, workload, rates)
    if cfg.cluster.embeddings == "sample":
        share = count_fitted(cfg, workload) / workload.documents
        embed, cluster = _move_embedding(embed, cluster, share)
    return [
        _by_bytes("ingest", workload, rates),
        _by_bytes("count", workload, rates),
        embed,
        _estimate_score(cfg, workload, rates, parameters),
        cluster,
        _estimate_prune(workload, rates),
    ]


def count_fitted(cfg: Config, workload: Workload) -> float:
    """Count the documents to which the centroids are fitted: all, or a sample."""
    cluster, documents = cfg.cluster, workload.documents
    if cluster.sample_per_cluster is None:
        return documents
    return min(documents, float(cluster.sample_per_cluster * cluster.k))


def find_width(cfg: Config) -> int:
    """Return the width of the vectors: `dim` in the embedder's spec, or else of the built embedder.

    Raises:
        ConfigError: the embedder cannot be built.
    """
    spec = cfg.embed.embedder
    return int(spec["dim"]) if "dim" in spec else build_embedder(cfg.embed).dim


def find_fixed(name: str, rates: Rates) -> float:
    """Return the measured seconds of a stage that do not depend on the corpus."""
    return rates.get(f"fixed.{name}", 0.0)


def cite(rate: Rate) -> str:
    """Return the value of a figure with its unit and source."""
    return f"{rate.name}: {rate.value:.3g} {rate.unit} ({rate.hardware}; {rate.source})"


def _by_bytes(name: str, workload: Workload, rates: Rates, key: str | None = None) -> Stage:
    rate = rates.find(key or name, f"stage {name}")
    return Stage(
        name,
        f"{workload.text_bytes / 1e12:.3g} TB of text",
        core_seconds=workload.text_bytes / rate.value,
        fixed_seconds=find_fixed(name, rates),
        sources=(cite(rate),),
    )


def _estimate_embed(
    cfg: Config, workload: Workload, rates: Rates, parameters: Mapping[str, float]
) -> Stage:
    spec = cfg.embed.embedder
    name = name_rate("embed", spec)
    if name in rates.by_name:
        return _by_bytes("embed", workload, rates, name)
    if "max_tokens" not in spec:
        raise ConfigError(
            f"embed.embedder {spec['use']}: no throughput is known; measure it, and give it with "
            f"--rate {name}=VALUE, in bytes of text per core-second"
        )
    return _encode("embed", "embed.embedder", spec, (cfg, workload, rates, parameters))


def _encode(
    name: str,
    key: str,
    spec: PluginSpec,
    given: tuple[Config, Workload, Rates, Mapping[str, float]],
) -> Stage:
    """Estimate a transformer that reads every document once, on GPUs."""
    cfg, workload, rates, parameters = given
    size = count_parameters(key, spec, count_vocabulary(cfg), parameters)
    efficiency, device = rates.efficiency["encode"], rates.find("gpu.h100", key)
    share = efficiency.at(size.parameters)
    tokens = workload.documents * min(
        float(spec.get("max_tokens", SCORED_TOKENS)), workload.tokens_per_document
    )
    operations = 2.0 * size.parameters * tokens
    return Stage(
        name,
        f"{tokens:.3g} tokens through {size.parameters:.3g} parameters",
        gpu_seconds=operations / (share * device.value),
        fixed_seconds=find_fixed(name, rates),
        sources=(cite(device), f"{share:.0%} of this rate: {efficiency.source}"),
        notes=(
            f"parameters of {key} from {size.source}",
            "every document is counted with the mean length, but documents above max_tokens are "
            "cut, so this is an upper bound",
        ),
    )


def _estimate_score(
    cfg: Config, workload: Workload, rates: Rates, parameters: Mapping[str, float]
) -> Stage:
    """Add up the work of all scorers, and Spark's own work, which is counted once."""
    spark = rates.find("score", "stage score")
    cores, gpus, sources = workload.text_bytes / spark.value, 0.0, [cite(spark)]
    notes: list[str] = []
    for index, spec in enumerate(cfg.score.scorers):
        key, name = f"score.scorers.{index}", name_rate("scorer", spec)
        if name in rates.by_name or not spec["use"].startswith("climb.quality.transformer:"):
            rate = rates.find(name, key)
            cores += workload.text_bytes / rate.value
            sources.append(cite(rate))
        else:
            part = _encode("score", key, spec, (cfg, workload, rates, parameters))
            gpus += part.gpu_seconds
            sources += part.sources
            notes += part.notes
    n = len(cfg.score.scorers)
    return Stage(
        "score",
        f"{workload.text_bytes / 1e12:.3g} TB of text, {n} scorer{'' if n == 1 else 's'}",
        core_seconds=cores,
        gpu_seconds=gpus,
        fixed_seconds=find_fixed("score", rates),
        sources=tuple(dict.fromkeys(sources)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _estimate_cluster(cfg: Config, workload: Workload, rates: Rates) -> Stage:
    """Estimate the fit on the sample, and the assignment of every document."""
    cluster, width, sample = cfg.cluster, find_width(cfg), count_fitted(cfg, workload)
    iterations = int(cluster.clusterer.get("max_iterations", 1))
    names = ("fit", "assign", "cluster")
    fitting, assigning, reading = (rates.find(name, "stage cluster") for name in names)
    per_pass = 2.0 * cluster.k * width
    fit = iterations * sample * per_pass / fitting.value
    every = workload.documents * (per_pass / assigning.value + 1.0 / reading.value)
    return Stage(
        "cluster",
        f"fit of {cluster.k:,} clusters to {sample:.3g} vectors; "
        f"{workload.documents:.3g} documents assigned",
        core_seconds=fit + every,
        fixed_seconds=find_fixed("cluster", rates),
        sources=(cite(fitting), cite(assigning), cite(reading)),
        notes=(f"assumes all {iterations} iterations of k-means, so this is an upper bound",),
    )


def _move_embedding(embed: Stage, cluster: Stage, share: float) -> tuple[Stage, Stage]:
    """Move the embedding of documents outside the sample from stage `embed` to stage `cluster`.

    Args:
        embed: the embedding of all documents.
        cluster: the fit and the assignment.
        share: share of the documents that are in the sample; job `embed` embeds only these.
    """
    rest = 1.0 - share
    return (
        replace(
            embed,
            work=f"{share:.2g} of {embed.work}",
            core_seconds=share * embed.core_seconds,
            gpu_seconds=share * embed.gpu_seconds,
        ),
        replace(
            cluster,
            work=f"{cluster.work}; {rest:.2g} of these documents embedded",
            core_seconds=cluster.core_seconds + rest * embed.core_seconds,
            gpu_seconds=cluster.gpu_seconds + rest * embed.gpu_seconds,
            sources=(*cluster.sources, *embed.sources),
            notes=(*cluster.notes, *embed.notes),
        ),
    )


def _estimate_prune(workload: Workload, rates: Rates) -> Stage:
    rate = rates.find("prune", "stage prune")
    return Stage(
        "prune",
        f"{workload.documents:.3g} documents joined and counted",
        core_seconds=workload.documents / rate.value,
        fixed_seconds=find_fixed("prune", rates),
        sources=(cite(rate),),
    )

"""The model card of a trained model: its mixture, the version of its data, and how it was made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from climb.files import escape_cell

ABOUT = (
    "A language model that job `train` of climb trained to test a mixture of training data. Its "
    "training continued a base checkpoint, which was trained on the natural mixture. The domains "
    "of both mixtures are groups of clusters of similar documents (CLIMB, arXiv 2504.13161)."
)


@dataclass(frozen=True)
class ModelFacts:
    """What the card says."""

    name: str
    """Key of the model in table `evaluations`."""

    search: str
    method: str
    seed: int
    weights: Mapping[str, float]
    """Domain -> share of the tokens of the run."""

    natural: Mapping[str, float]
    """Domain -> share of the tokens of the corpus. The base checkpoint was trained with these
    shares."""

    n_tokens: int
    """Tokens of the run."""

    base: str
    """Name of the base checkpoint's folder."""

    base_tokens: int
    recipe: str
    """Key of the recipe in table `evaluations`."""

    settings: Mapping[str, Any]
    """Fields of the model's recipe."""

    processes: int
    corpus_digest: str
    versions: Mapping[str, int | None]
    """Table -> version that the training data were made from."""

    metrics: Mapping[str, float]


def render_model_card(facts: ModelFacts) -> str:
    """Render README.md of the model's folder, with the header that the Hugging Face hub reads."""
    header = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["climb", "data-mixture"],
    }
    sections = [
        ["---", yaml.safe_dump(header, sort_keys=False).strip(), "---"],
        [f"# Mixture `{facts.method}` of search `{facts.search}`, seed {facts.seed}", "", ABOUT],
        ["## Mixture", "", *_render_mixture(facts)],
        ["## Training", "", *_render_training(facts)],
        ["## Data", "", *_render_data(facts)],
        ["## Metrics", "", *_render_metrics(facts.metrics)],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _render_mixture(facts: ModelFacts) -> Iterator[str]:
    yield "| domain | weight | natural mixture |"
    yield "|---|---|---|"
    for domain, weight in sorted(facts.weights.items(), key=lambda item: (-item[1], item[0])):
        yield f"| {escape_cell(domain)} | {weight:.5f} | {facts.natural.get(domain, 0.0):.5f} |"


def _render_training(facts: ModelFacts) -> Iterator[str]:
    values = {
        "model": facts.name,
        "recipe": facts.recipe,
        "tokens": f"{facts.n_tokens:,}",
        "seed": facts.seed,
        "processes": facts.processes,
        "base checkpoint": f"{facts.base}, {facts.base_tokens:,} tokens",
    }
    yield "| | |"
    yield "|---|---|"
    for name, value in values.items():
        yield f"| {name} | {escape_cell(str(value))} |"
    yield ""
    yield "```json"
    yield json.dumps(facts.settings, indent=1, default=str)
    yield "```"


def _render_data(facts: ModelFacts) -> Iterator[str]:
    yield f"Corpus digest of the training shards: `{facts.corpus_digest}`."
    yield ""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(facts.versions.items()))
    yield f"Versions of the tables: {versions}. The documents keep the licences of their sources."


def _render_metrics(metrics: Mapping[str, float]) -> Iterator[str]:
    yield "Measured on the report items, which the search did not use."
    yield ""
    yield "| metric | value |"
    yield "|---|---|"
    for name, value in sorted(metrics.items()):
        yield f"| {escape_cell(name)} | {value:.5f} |"

"""The manifest and the data card of an exported dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from climb.dataset.selection import DomainQuota

FORMAT = "climb-mixture-1"
"""Marks a folder as an export of climb, which a newer export may replace."""

MAX_DEVIATION = 0.01
"""Largest difference between a domain's tokens and its planned tokens that causes no warning. It is
a share of the planned tokens of all domains."""

ABOUT = (
    "Text mixed in the proportions that a CLIMB search (arXiv 2504.13161) recommends. A domain is "
    "a group of clusters of similar documents; its name is made of its most distinctive words. A "
    "domain that the mixture repeats is repeated in the rows: whole copies first, then a part "
    "chosen by a hash of the document's id."
)


@dataclass(frozen=True)
class DomainCounts:
    """What a dataset contains of one domain."""

    rows: int
    documents: int
    """Distinct documents: copies of a document count once."""

    tokens: int


def build_manifest(
    search: str,
    quotas: Sequence[DomainQuota],
    counts: Mapping[str, DomainCounts],
    made_from: Mapping[str, Any],
    versions: Mapping[str, int | None],
) -> dict[str, Any]:
    """Build the manifest: what a dataset contains and what reproduces it.

    Args:
        search: name of the search whose mixture the dataset has.
        quotas: wanted tokens of each domain.
        counts: what the dataset contains of each domain; a missing domain has no rows.
        made_from: settings and versions that determine the rows.
        versions: versions of all tables that were read, and of `corpus`.
    """
    empty = DomainCounts(0, 0, 0)
    domains = {}
    for quota in quotas:
        count = counts.get(quota.domain, empty)
        domains[quota.domain] = {
            "weight": quota.weight,
            "wanted_tokens": quota.wanted_tokens,
            "tokens": count.tokens,
            "epochs": count.tokens / quota.available_tokens,
            "rows": count.rows,
            "documents": count.documents,
        }
    return {
        "format": FORMAT,
        "search": search,
        "wanted_tokens": sum(quota.wanted_tokens for quota in quotas),
        "tokens": sum(domain["tokens"] for domain in domains.values()),
        "rows": sum(domain["rows"] for domain in domains.values()),
        "domains": domains,
        "versions": dict(versions),
        "made_from": dict(made_from),
    }


def list_deviations(manifest: Mapping[str, Any]) -> list[str]:
    """Describe the domains whose tokens differ from the planned ones by more than `MAX_DEVIATION`.

    They can differ because only whole documents are selected.
    """
    allowed = MAX_DEVIATION * manifest["wanted_tokens"]
    return [
        f"{name} has {domain['tokens']:,} tokens instead of {domain['wanted_tokens']:,}, because "
        "documents are not cut"
        for name, domain in sorted(manifest["domains"].items())
        if abs(domain["tokens"] - domain["wanted_tokens"]) > allowed
    ]


def render_data_card(manifest: Mapping[str, Any]) -> str:
    """Render README.md of an export, with the header that the Hugging Face hub reads."""
    domains = sorted(manifest["domains"].items(), key=lambda item: (-item[1]["weight"], item[0]))
    filled = [name for name, domain in domains if domain["rows"]]
    header = {
        "pretty_name": f"Mixture found by climb search {manifest['search']}",
        "task_categories": ["text-generation"],
        "tags": ["climb", "data-mixture"],
        "configs": [_describe_config("default", "data/*/*.parquet", default=True)]
        + [_describe_config(name, f"data/domain={name}/*.parquet") for name in filled],
    }
    tokenizer = manifest["made_from"]["settings"]["tokenizer"]
    rows = [
        f"| {name} | {d['weight']:.4f} | {d['tokens']:,} | {d['wanted_tokens']:,} "
        f"| {d['epochs']:.2f} | {d['documents']:,} | {d['rows']:,} |"
        for name, d in domains
    ]
    return "\n".join(
        [
            "---",
            yaml.safe_dump(header, sort_keys=False, allow_unicode=True).strip(),
            "---",
            "",
            f"# Mixture `{manifest['search']}`: {manifest['tokens']:,} tokens",
            "",
            ABOUT,
            "",
            "| domain | weight | tokens | wanted | epochs | documents | rows |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"Tokens are counted with the tokenizer `{tokenizer}`."
            " Columns: `doc_id`, `copy` (0 for a document's first row), `n_tokens`, `text`; rows of"
            " a domain are in hash order. `manifest.json` has the versions of all tables that were"
            " read.",
            "",
            "The documents keep the licences of their sources.",
            "",
        ]
    )


def _describe_config(name: str, files: str, default: bool = False) -> dict[str, Any]:
    config: dict[str, Any] = {"config_name": name, "data_files": files}
    return config | ({"default": True} if default else {})

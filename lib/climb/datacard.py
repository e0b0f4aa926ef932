"""What stands beside an exported dataset: its manifest, and a data card for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from climb.mixing import Portion

FORMAT = "climb-mixture-1"
"""Marks a folder as an export of ours, which may be replaced by a newer one."""

ABOUT = (
    "Text mixed in the proportions that a CLIMB search (arXiv 2504.13161) found. A domain is a "
    "group of clusters of like documents; its name is made of its most distinctive words. A domain "
    "that is repeated stands here as often as the mixture wants: whole copies first, then a part "
    "chosen by a hash of the document's id."
)


@dataclass(frozen=True)
class Written:
    """What a dataset holds of one domain."""

    rows: int
    documents: int
    """Different ones: copies of a document count once."""

    tokens: int


def manifest(
    search: str,
    shares: Sequence[Portion],
    written: Mapping[str, Written],
    made_from: Mapping[str, Any],
    versions: Mapping[str, int | None],
) -> dict[str, Any]:
    """Everything that says what a dataset is and how to make it again.

    Args:
        search: name of the search whose mixture it follows.
        shares: what was wanted of each domain.
        written: what there is of each domain; a domain that is missing gave nothing.
        made_from: settings and versions that decide the rows.
        versions: versions of all tables that were read, and of `corpus`.
    """
    nothing = Written(0, 0, 0)
    domains = {}
    for share in shares:
        given = written.get(share.domain, nothing)
        domains[share.domain] = {
            "weight": share.weight,
            "wanted_tokens": share.wanted,
            "tokens": given.tokens,
            "epochs": given.tokens / share.tokens,
            "rows": given.rows,
            "documents": given.documents,
        }
    return {
        "format": FORMAT,
        "search": search,
        "wanted_tokens": sum(share.wanted for share in shares),
        "tokens": sum(domain["tokens"] for domain in domains.values()),
        "rows": sum(domain["rows"] for domain in domains.values()),
        "domains": domains,
        "versions": dict(versions),
        "made_from": dict(made_from),
    }


def data_card(made: Mapping[str, Any]) -> str:
    """README.md of an export, in the form that the Hugging Face hub reads."""
    domains = sorted(made["domains"].items(), key=lambda item: (-item[1]["weight"], item[0]))
    filled = [name for name, domain in domains if domain["rows"]]
    header = {
        "pretty_name": f"Mixture found by climb search {made['search']}",
        "task_categories": ["text-generation"],
        "tags": ["climb", "data-mixture"],
        "configs": [_config("default", "data/*/*.parquet", default=True)]
        + [_config(name, f"data/domain={name}/*.parquet") for name in filled],
    }
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
            f"# Mixture `{made['search']}`: {made['tokens']:,} tokens",
            "",
            ABOUT,
            "",
            "| domain | weight | tokens | wanted | epochs | documents | rows |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"Tokens are counted with the tokenizer `{made['made_from']['settings']['tokenizer']}`."
            " Columns: `doc_id`, `copy` (0 for a document's first row), `n_tokens`, `text`; rows of"
            " a domain are in hash order. `manifest.json` has the versions of everything read.",
            "",
            "The documents keep the licences of their sources.",
            "",
        ]
    )


def _config(name: str, files: str, default: bool = False) -> dict[str, Any]:
    config: dict[str, Any] = {"config_name": name, "data_files": files}
    return config | ({"default": True} if default else {})

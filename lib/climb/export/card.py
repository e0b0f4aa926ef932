"""The data card of an export: what it contains, where it is from, and what was dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from climb.export.contents import Contents
from climb.export.format import Format
from climb.export.units import convert_weights
from climb.files import escape_cell


@dataclass(frozen=True)
class Origin:
    """A source or a licence, with its documents and tokens in the mixture.

    A document that the mixture contains several times is counted once.
    """

    name: str
    documents: int
    tokens: int


@dataclass(frozen=True)
class Dropped:
    """Documents that are not in the mixture, and the reason."""

    reason: str
    documents: int
    tokens: int | None
    """None if the tokens were not counted."""


@dataclass(frozen=True)
class CardFacts:
    """What the card says besides the mixture.

    All fields are empty if the export only lists the user's own files, because these facts come
    from climb's tables.
    """

    sources: Sequence[Origin] = ()
    licences: Sequence[Origin] = ()
    quality: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Domain -> score -> mean over its documents."""

    dropped: Sequence[Dropped] = ()


def render_card(
    contents: Contents, format: Format, facts: CardFacts, versions: Mapping[str, Any], name: str
) -> str:
    """Render README.md of an export.

    Args:
        contents: what the export contains.
        format: the format of its files.
        facts: sources, licences, quality and what was dropped.
        versions: table -> version that was read.
        name: name of the search, or of the file with the mixture.
    """
    sections = [
        [f"# Mixture `{name}`: {len(contents.domains)} domains", "", *_describe_kind(contents)],
        ["## Weights", "", *_render_weights(contents, format)],
        [] if contents.own_files else ["## Contents", "", *_render_contents(contents)],
        _render_origins("Sources", facts.sources, contents),
        _render_origins("Licences", facts.licences, contents),
        _render_quality(facts.quality),
        _render_dropped(facts.dropped),
        _render_versions(versions),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def list_document_shares(contents: Contents) -> dict[str, float]:
    """Return domain -> share of documents; empty if a number of tokens per document is unknown."""
    if not all(domain.mean_tokens for domain in contents.domains):
        return {}
    return convert_weights(
        {domain.name: domain.weight for domain in contents.domains},
        {domain.name: domain.mean_tokens for domain in contents.domains},
    )


def _describe_kind(contents: Contents) -> Iterator[str]:
    if contents.own_files:
        yield (
            "This is a recipe for files that exist: the weights with which a trainer draws from "
            "them."
        )
        yield f"The target run reads {contents.target_tokens:,} tokens."
        return
    if contents.kind == "mixed":
        yield (
            "This is the mixed corpus: all documents in the order of a hash, each as often as the "
            "mixture requires. Read it from the start to the end; no weights are needed. The "
            "shares of the mixture refer to tokens as counted by climb's job `count`."
        )
    else:
        yield (
            "This is a recipe: the documents of every domain, each once, and the weights with "
            "which a trainer draws from the domains. If the target run reads less than one epoch "
            "of a domain, only the documents that it reads are here."
        )
    yield (
        f"The target run reads {contents.target_tokens:,} tokens. Documents of the validation "
        "split were chosen by a hash of their ids; none of their copies is in the training split."
    )
    if contents.tokenization is None:
        yield "Tokens are counted by climb's job `count`, without end-of-text tokens."
    else:
        name = contents.tokenization.tokenizer
        yield (
            f"The numbers of tokens are counted with the tokenizer `{name}` (`tokenizer.json`), "
            "with one end-of-text token after every document."
        )


def _render_weights(contents: Contents, format: Format) -> Iterator[str]:
    """Yield the table with both numbers: shares of tokens and shares of documents."""
    shares = list_document_shares(contents)
    if contents.kind == "recipe":
        yield f"Loaders of this format weight {format.unit}: use the share of {format.unit}."
        yield ""
    yield "| domain | share of tokens | share of documents | tokens/document | epochs | limit |"
    yield "|---|---|---|---|---|---|"
    for domain in sorted(contents.domains, key=lambda d: (-d.weight, d.name)):
        cells = (
            escape_cell(domain.name),
            f"{domain.weight:.5f}",
            _format(shares.get(domain.name), ".5f"),
            _format(domain.mean_tokens or None, ",.1f"),
            f"{domain.epochs:.2f}",
            _format(domain.max_epochs, "g", "none"),
        )
        yield f"| {' | '.join(cells)} |"


def _format(value: float | None, form: str, missing: str = "unknown") -> str:
    return missing if value is None else f"{value:{form}}"


def _render_contents(contents: Contents) -> Iterator[str]:
    yield "| split | domain | documents | tokens | files |"
    yield "|---|---|---|---|---|"
    groups: dict[tuple[str, str], list[int]] = {}
    for shard in contents.shards:
        sums = groups.setdefault((shard.split, shard.domain or "all"), [0, 0, 0])
        for i, n in enumerate((shard.documents, shard.tokens, len(shard.files))):
            sums[i] += n
    for (split, domain), (documents, tokens, files) in groups.items():
        yield f"| {split} | {escape_cell(domain)} | {documents:,} | {tokens:,} | {files:,} |"


def _render_origins(title: str, origins: Sequence[Origin], contents: Contents) -> list[str]:
    """Render sources or licences; return nothing if the files are the user's own."""
    if contents.own_files:
        return []
    lines = [f"## {title}", ""]
    if title == "Licences":
        lines += ["The documents keep the licences of their sources.", ""]
        if not any(origin.name for origin in origins):
            return [*lines, "No metadata column of the documents names a licence."]
    lines += ["| name | documents | tokens |", "|---|---|---|"]
    return lines + [
        f"| {escape_cell(o.name or 'unknown')} | {o.documents:,} | {o.tokens:,} |" for o in origins
    ]


def _render_quality(quality: Mapping[str, Mapping[str, float]]) -> list[str]:
    names = sorted({name for scores in quality.values() for name in scores})
    if not names:
        return []
    lines = ["## Quality", "", "Mean scores of the documents of each domain.", ""]
    lines += [f"| domain | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for domain, scores in quality.items():
        values = [f"{scores[name]:.3f}" if name in scores else "" for name in names]
        lines.append(f"| {escape_cell(domain)} | {' | '.join(values)} |")
    return lines


def _render_dropped(dropped: Sequence[Dropped]) -> list[str]:
    if not dropped:
        return []
    lines = ["## Dropped", "", "| reason | documents | tokens |", "|---|---|---|"]
    for item in dropped:
        tokens = "not counted" if item.tokens is None else f"{item.tokens:,}"
        lines.append(f"| {escape_cell(item.reason)} | {item.documents:,} | {tokens} |")
    return lines


def _render_versions(versions: Mapping[str, Any]) -> list[str]:
    if not versions:
        return []
    read = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return ["## Versions", "", f"Versions of the tables that were read: {read}."]

"""What a removal of sources changes: rows, tokens, shares, and where the text remains."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from climb.errors import TableError

FORMAT = "climb-removal-1"
"""Marks the JSON of a removal."""


@dataclass(frozen=True)
class Counted:
    """Documents and tokens of a group before the removal, and how many of them it removes."""

    documents: int
    tokens: int
    removed_documents: int
    removed_tokens: int


@dataclass(frozen=True, kw_only=True)
class Removal:
    """The report of a removal."""

    sources: tuple[str, ...]
    documents: int
    """Documents before the removal."""

    removed_documents: int
    rows: Mapping[str, int]
    """Table -> removed rows."""

    domains: Mapping[str, Counted]
    """Domain -> counts. Pruned clusters, and documents without a cluster, are in no domain."""

    pruned: Counted
    """Documents of pruned clusters."""

    repeated_rows: int
    """Rows of `rejected` that repeat a removed text. Those that come from sources which are not
    removed become documents with the next ingest."""

    stale: tuple[str, ...]
    """Jobs whose results are out of date, because their inputs have changed; in pipeline order."""

    remaining: Mapping[str, str]
    """Place -> what part of the removed text is still there, and until when."""

    def shares(self) -> dict[str, tuple[float, float]]:
        """Return each domain's share of the tokens of all domains, before and after."""
        before = sum(domain.tokens for domain in self.domains.values())
        after = before - sum(domain.removed_tokens for domain in self.domains.values())
        return {
            name: (
                domain.tokens / before if before else 0.0,
                (domain.tokens - domain.removed_tokens) / after if after else 0.0,
            )
            for name, domain in self.domains.items()
        }

    def to_json(self) -> str:
        """Write the report as JSON, with the shares of the domains before and after."""
        fields = asdict(self) | {"format": FORMAT}
        for name, (before, after) in self.shares().items():
            fields["domains"][name] |= {"share_before": before, "share_after": after}
        return json.dumps(fields, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Removal:
        """Read what `to_json` wrote.

        Raises:
            TableError: the text is not the report of a removal.
        """
        fields: dict[str, Any] = json.loads(text)
        if fields.pop("format", None) != FORMAT:
            raise TableError(
                f"table exclusions has a report in another format than {FORMAT}; "
                "it was written by another version of climb"
            )
        names = Counted.__dataclass_fields__
        domains = {
            domain: Counted(**{name: counts[name] for name in names})
            for domain, counts in fields["domains"].items()
        }
        own = {"domains": domains, "pruned": Counted(**fields["pruned"])}
        own |= {name: tuple(fields[name]) for name in ("sources", "stale")}
        return cls(**(fields | own))

    def __str__(self) -> str:
        """Format the report as lines."""
        lines = [
            f"{self.removed_documents:,} of {self.documents:,} documents "
            f"(all of {', '.join(map(repr, self.sources))}): "
            + ", ".join(f"{table} {n:,} rows" for table, n in self.rows.items())
        ]
        if self.domains:
            lines += ["", *self._format_domains()]
        if self.repeated_rows:
            lines += [
                "",
                f"{self.repeated_rows:,} rejected rows repeat a removed text; those from "
                "sources that are not removed become documents with the next `climb ingest`",
            ]
        lines += ["", f"out of date: {', '.join(self.stale)}; `climb run` brings them up to date"]
        if self.remaining:
            lines += ["", "what still has the removed text, or was made from it:"]
            width = max(map(len, self.remaining))
            lines += [f"  {place:<{width}}  {what}" for place, what in self.remaining.items()]
        return "\n".join(lines)

    def _format_domains(self) -> list[str]:
        width = max(len("domain"), len("(pruned)"), *map(len, self.domains))
        lines = [
            f"{'domain':<{width}}  {'documents':>11}  {'removed':>9}  {'tokens':>15}  "
            f"{'removed':>13}  share before    after"
        ]
        rows = [*self.domains.items(), ("(pruned)", self.pruned)]
        shares = {name: f"{a:12.1%}  {b:7.1%}" for name, (a, b) in self.shares().items()}
        for name, n in rows:
            lines.append(
                f"{name:<{width}}  {n.documents:11,}  {n.removed_documents:9,}  {n.tokens:15,}  "
                f"{n.removed_tokens:13,}  {shares.get(name, '')}".rstrip()
            )
        return lines


def find_report(
    removals: Mapping[str, Removal], names: Sequence[str], is_complete: bool
) -> Removal | None:
    """Find the report of an earlier removal that covers all of these sources.

    If no document of these sources is left, every report that covers them is valid. If documents
    are left, a report is valid only if it is still in `removals` for every source that it lists. A
    source that was readmitted has no report there, and a source that was removed again has a newer
    one. If documents are left and a valid report is found, its removal is taken as interrupted, and
    this run continues it with all sources of the report.

    Args:
        removals: removed source -> report.
        names: the sources to remove.
        is_complete: whether no document of these sources is left.
    """
    if not removals.keys() >= set(names):
        return None
    for report in (removals[name] for name in names):
        is_valid = is_complete or all(removals.get(s) == report for s in report.sources)
        if is_valid and set(report.sources) >= set(names):
            return report
    return None

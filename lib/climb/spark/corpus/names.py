"""Keep names of domains when documents are clustered again, and apply names that the user gave."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import functions as F

from climb import tables
from climb.config.load import read_yaml
from climb.domains.names import match_earlier, name_groups, rename
from climb.errors import ConfigError
from climb.progress import log
from climb.spark.delta.store import Store

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class DomainNames:
    """What decides the names of new domains, beside their terms."""

    earlier: Mapping[str, Sequence[str]]
    """Generated name of an earlier domain -> ids of sampled documents of this domain."""

    cluster_of: Mapping[str, int]
    """Id of a sampled document -> its cluster now."""

    given: Mapping[str, str]
    """Generated name -> the name that the user gave."""

    def choose(
        self, terms_K: Sequence[Sequence[str]], domain_of: Mapping[int, int]
    ) -> tuple[list[str], list[str]]:
        """Choose the names of all domains; return the chosen names and the generated names.

        Args:
            terms_K: distinctive terms of each domain.
            domain_of: cluster -> number of its domain; pruned clusters have none.

        Raises:
            ConfigError: two domains would have the same name.
        """
        documents = {
            doc_id: domain_of[cluster]
            for doc_id, cluster in self.cluster_of.items()
            if cluster in domain_of
        }
        known = match_earlier(self.earlier, documents)
        unnamed = [terms for k, terms in enumerate(terms_K) if k not in known]
        new = iter(name_groups(unnamed, taken=known.values()))
        names = [known[k] if k in known else next(new) for k in range(len(terms_K))]
        renamed = rename(names, self.given)
        repeated = sorted({name for name in renamed if renamed.count(name) > 1})
        if repeated:
            raise ConfigError(
                f"with prune.names, several domains have the same name: {', '.join(repeated)}; "
                f"choose other names; the generated names are {', '.join(names)}"
            )
        unused = sorted(self.given.keys() - set(names))
        if unused:
            log(
                "prune",
                f"prune.names names domains that do not exist: {', '.join(unused)}; the generated "
                f"names are {', '.join(sorted(names))}",
            )
        return renamed, names


def read_domain_names(store: Store, given: Mapping[str, str]) -> DomainNames:
    """Read the earlier domains, and where their documents are now; `given` are the user's names."""
    earlier: dict[str, list[str]] = {}
    if store.exists(tables.DOMAINS):
        rows = store.read_rows(tables.DOMAINS)
        earlier = {row["generated_name"]: row["sample"] or [] for row in rows}
    ids = sorted({doc_id for sample in earlier.values() for doc_id in sample})
    cluster_of: dict[str, int] = {}
    if ids:
        wanted = store.session.createDataFrame([(doc_id,) for doc_id in ids], "doc_id STRING")
        assigned = store.read(tables.ASSIGNMENTS).join(F.broadcast(wanted), on="doc_id")
        rows_now = assigned.select("doc_id", "cluster").collect()
        cluster_of = {row["doc_id"]: row["cluster"] for row in rows_now}
    return DomainNames(earlier, cluster_of, given)


def read_given_names(path: str | None) -> dict[str, str]:
    """Read the file of `prune.names`.

    Raises:
        ConfigError: the file cannot be read, is not a mapping, or has an invalid new name.
    """
    given = {str(name): new for name, new in read_yaml(Path(path)).items()} if path else {}
    for name, new in given.items():
        if not isinstance(new, str) or not NAME.fullmatch(new):
            raise ConfigError(
                f"prune.names: {path} gives domain {name!r} the name {new!r}; a name must begin "
                "with an ASCII letter or digit, and have only ASCII letters, digits, `-`, `_` and "
                "`.`, because it becomes a folder and a column"
            )
    return given
